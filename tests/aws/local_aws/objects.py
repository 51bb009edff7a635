"""What moto's S3 lacks or does otherwise than S3."""

import base64
import hashlib
import re
import threading
import zlib

from moto.iam.access_control import PermissionResult
from moto.s3.exceptions import MissingKey, PreconditionFailed, S3ClientError
from moto.s3.models import FakeBucket, S3Backend
from moto.s3.responses import S3Response

from .policies import Call, denied

# Those that can be computed here without a library for them.
CHECKSUMS = {
    "CRC32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "SHA1": lambda body: hashlib.sha1(body).digest(),
    "SHA256": lambda body: hashlib.sha256(body).digest(),
}
CHECKSUM = re.compile(r"x-amz-checksum-(crc32|crc32c|crc64nvme|sha1|sha256)", re.IGNORECASE)
TRAILER = re.compile(rb"\r\n(x-amz-checksum-[a-z0-9]+):([A-Za-z0-9+/=]+)")

writing = threading.RLock()


def install() -> None:
    take_requests_for_tls()
    check_and_write_at_once()
    complete_uploads_on_their_condition()
    check_checksums()
    list_past_what_is_gone()
    delete_versions_of_a_suspended_bucket()


class BadDigest(S3ClientError):
    code = "BadDigest"

    def __init__(self, algorithm: str):
        super().__init__("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")


def take_requests_for_tls() -> None:
    """moto holds a bucket policy's statement against every request, its condition met or not: a Deny of what is not TLS refuses
    all. Here conditions count, and a request counts as TLS, as it is in AWS."""

    def get_permission(self, action: str, resource: str):
        if self.policy is None:
            return PermissionResult.NEUTRAL
        call = Call(action, resource, {"aws:SecureTransport": "true"})
        return PermissionResult.DENIED if denied(self.policy.decode(), call) else PermissionResult.NEUTRAL

    FakeBucket.get_permission = get_permission


def list_past_what_is_gone() -> None:
    """A listing of versions goes on after its markers. moto looks for the very version that they name, and lists nothing where that
    was deleted since: who empties a bucket page by page would leave all past the first page."""
    plain = S3Backend.list_object_versions

    def list_object_versions(self, bucket_name, delimiter=None, key_marker=None, max_keys=1000, prefix="", version_id_marker=None):
        if key_marker and version_id_marker:
            versions = [version for of_key in self.get_bucket(bucket_name).keys.iterlists() for version in of_key[1]]
            versions.sort(key=lambda version: (version.name, -version.last_modified.timestamp()))
            there = [(version.name, version.version_id) for version in versions]
            if (key_marker, version_id_marker) not in there:
                before = [marker for marker in there if marker[0] < key_marker]
                key_marker, version_id_marker = before[-1] if before else (None, None)
        return plain(self, bucket_name, delimiter, key_marker, max_keys, prefix, version_id_marker)

    S3Backend.list_object_versions = list_object_versions


def delete_versions_of_a_suspended_bucket() -> None:
    """A bucket whose versioning is suspended keeps its versions, and deletes the one that is named. moto takes it for one that never
    had any: it drops them all, and fails on a delete marker. Terraform suspends versioning before it empties a bucket."""
    plain = S3Backend.delete_object

    def delete_object(self, bucket_name, key_name, version_id=None, bypass=False):
        bucket = self.get_bucket(bucket_name)
        if version_id is None or bucket.versioning_status != "Suspended":
            return plain(self, bucket_name, key_name, version_id, bypass)
        with writing:
            bucket.versioning_status = "Enabled"
            try:
                return plain(self, bucket_name, key_name, version_id, bypass)
            finally:
                bucket.versioning_status = "Suspended"

    S3Backend.delete_object = delete_object


def check_and_write_at_once() -> None:
    """Two conditional writes at the same time could both find their condition met."""
    for name in ("put_object", "_key_response_post"):
        setattr(S3Response, name, one_at_a_time(getattr(S3Response, name)))


def one_at_a_time(write):
    def written(*args, **kwargs):
        with writing:
            return write(*args, **kwargs)

    return written


def complete_uploads_on_their_condition() -> None:
    """moto heeds If-None-Match of CompleteMultipartUpload, but not If-Match."""
    original = S3Response._key_response_post

    def post(self, *args, **kwargs):
        expected = self.headers.get("If-Match")
        if expected and self._get_param("uploadId"):
            there = self.backend.get_object(self.bucket_name, self.parse_key_name())
            if there is None:
                raise MissingKey
            if there.etag.strip('"') != expected.strip('"'):
                raise PreconditionFailed("If-Match")
        return original(self, *args, **kwargs)

    S3Response._key_response_post = post


def check_checksums() -> None:
    """moto keeps a checksum without looking at it, and only one that is announced by name in a header of its own."""

    def get_checksum(self, response_headers):
        name, value = given_checksum(self)
        if not name:
            return "", None
        algorithm = name.rpartition("-")[2].upper()
        compute = CHECKSUMS.get(algorithm)
        if compute and base64.b64encode(compute(self.body or b"")).decode() != value:
            raise BadDigest(algorithm)
        response_headers[name.lower()] = value
        return algorithm, value

    S3Response._get_checksum = get_checksum


def given_checksum(request) -> tuple[str, str]:
    """The checksum that comes with an object: in a header, or after the body."""
    in_headers = [(name, value) for name, value in request.headers.items() if CHECKSUM.fullmatch(name)]
    if in_headers:
        return in_headers[0]
    if "STREAMING" in request.headers.get("x-amz-content-sha256", "") and request.headers.get("x-amz-trailer"):
        after = TRAILER.search(request.raw_body[-512:])
        if after:
            return after[1].decode(), after[2].decode()
    return "", ""
