"""Documents that travel between server and device, and what follows from them; pure."""
