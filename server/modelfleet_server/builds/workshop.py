"""What `catalog`, which lies below, needs of builds; the composition root hands it over."""

from modelfleet_manifests.release import Schema
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.builds import children, service
from modelfleet_server.builds.recipes import DEFAULT_PROFILES
from modelfleet_server.catalog.workshop import Workshop


def make_workshop(blobs: BlobStore) -> Workshop:
    """Return the part that checks masters and asks for variants."""

    def inspect(digest: str) -> Schema:
        return children.inspect(blobs.path_of(digest)).schema

    return Workshop(inspect=inspect, queue=service.queue, profiles=DEFAULT_PROFILES)
