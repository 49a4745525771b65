"""The pages: the fleet with its rollouts, and a technician's page for one device.

`words` (how states look) < `views` of pages as plain data, which templates render and
streams send as JSON < `pages` (rendering, errors) < `api`. Scripts put these same values
into the page as text and attributes; a page says everything without them.
"""
