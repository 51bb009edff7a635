"""Corrects the behaviour of moto's S3."""

import base64
import hashlib
import re
import threading
import zlib

from moto.iam.access_control import PermissionResult
from moto.s3.exceptions import InvalidPart, MissingKey, PreconditionFailed, S3ClientError
from moto.s3.models import FakeBucket, S3Backend
from moto.s3.responses import S3Response

# The checksums that the standard library can compute.
CHECKSUMS = {
    "CRC32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
    "SHA1": lambda body: hashlib.sha1(body).digest(),
    "SHA256": lambda body: hashlib.sha256(body).digest(),
}
CHECKSUM = re.compile(r"x-amz-checksum-(crc32|crc32c|crc64nvme|sha1|sha256)", re.IGNORECASE)
PART = re.compile(r"<Part>(.*?)</Part>", re.DOTALL)
PART_NUMBER = re.compile(r"<PartNumber>(\d+)</PartNumber>")
TRAILER = re.compile(rb"\r\n(x-amz-checksum-[a-z0-9]+):([A-Za-z0-9+/=]+)")

write_lock = threading.RLock()


def install() -> None:
    leave_policies_to_the_gate()
    serialize_writes()
    check_conditions_of_uploads()
    verify_checksums()
    require_checksums_of_parts()
    return_checksums_of_uploads()
    list_after_deleted_markers()
    delete_versions_of_a_suspended_bucket()


class BadDigest(S3ClientError):
    code = "BadDigest"

    def __init__(self, algorithm: str):
        super().__init__("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")


class InvalidRequest(S3ClientError):
    code = "InvalidRequest"

    def __init__(self, message: str):
        super().__init__("InvalidRequest", message)


def leave_policies_to_the_gate() -> None:
    """Evaluates bucket policies only in `roles.Gate`. moto ignores their conditions: it would apply a Deny without TLS to
    all requests."""
    FakeBucket.get_permission = lambda self, action, resource: PermissionResult.NEUTRAL


def list_after_deleted_markers() -> None:
    """Continues a listing of versions after its markers. If the version that the markers name was deleted, moto lists
    nothing, so that emptying a bucket page by page would end after the first page."""
    original = S3Backend.list_object_versions

    def list_object_versions(self, bucket_name, delimiter=None, key_marker=None, max_keys=1000, prefix="", version_id_marker=None):
        if key_marker and version_id_marker:
            versions = [version for of_key in self.get_bucket(bucket_name).keys.iterlists() for version in of_key[1]]
            versions.sort(key=lambda version: (version.name, -version.last_modified.timestamp()))
            existing = [(version.name, version.version_id) for version in versions]
            if (key_marker, version_id_marker) not in existing:
                before = [marker for marker in existing if marker[0] < key_marker]
                key_marker, version_id_marker = before[-1] if before else (None, None)
        return original(self, bucket_name, delimiter, key_marker, max_keys, prefix, version_id_marker)

    S3Backend.list_object_versions = list_object_versions


def delete_versions_of_a_suspended_bucket() -> None:
    """Deletes only the given version of an object in a bucket whose versioning is suspended. moto deletes all versions,
    and fails for a delete marker. Terraform suspends versioning before it empties a bucket."""
    original = S3Backend.delete_object

    def delete_object(self, bucket_name, key_name, version_id=None, bypass=False):
        bucket = self.get_bucket(bucket_name)
        if version_id is None or bucket.versioning_status != "Suspended":
            return original(self, bucket_name, key_name, version_id, bypass)
        with write_lock:
            bucket.versioning_status = "Enabled"
            try:
                return original(self, bucket_name, key_name, version_id, bypass)
            finally:
                bucket.versioning_status = "Suspended"

    S3Backend.delete_object = delete_object


def serialize_writes() -> None:
    """Runs writes one after another. Otherwise the conditions of two concurrent writes could both be met."""
    for name in ("put_object", "_key_response_post"):
        setattr(S3Response, name, one_at_a_time(getattr(S3Response, name)))


def one_at_a_time(write):
    def locked(*args, **kwargs):
        with write_lock:
            return write(*args, **kwargs)

    return locked


def check_conditions_of_uploads() -> None:
    """Supports If-Match of CompleteMultipartUpload. moto supports only If-None-Match."""
    original = S3Response._key_response_post

    def post(self, *args, **kwargs):
        expected = self.headers.get("If-Match")
        if expected and self._get_param("uploadId"):
            existing = self.backend.get_object(self.bucket_name, self.parse_key_name())
            if existing is None:
                raise MissingKey
            if existing.etag.strip('"') != expected.strip('"'):
                raise PreconditionFailed("If-Match")
        return original(self, *args, **kwargs)

    S3Response._key_response_post = post


def verify_checksums() -> None:
    """Verifies checksums, and finds them in headers and trailers. moto stores a checksum unverified, and only from a
    header."""

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


def require_checksums_of_parts() -> None:
    """Requires the checksum that an upload announced, with each part and for each part when the upload is completed, and
    refuses other checksums. moto accepts any. A checksum of the whole object is not required with the parts."""
    upload_part, post = S3Response.upload_part, S3Response._key_response_post

    def checked_upload_part(self):
        announced, is_required = announced_checksum(self, self._get_param("uploadId"))
        name, _ = given_checksum(self)
        given = name.lower().removeprefix("x-amz-checksum-")
        if given != announced and (given or is_required):
            raise InvalidRequest(
                f"Checksum Type mismatch occurred, expected checksum Type: {announced or 'null'}, "
                f"actual checksum Type: {given or 'null'}"
            )
        return upload_part(self)

    def checked_post(self, request, body, bucket_name, query, key_name):
        upload_id = (query.get("uploadId") or [""])[0]
        announced, is_required = announced_checksum(self, upload_id)
        if is_required:
            parts = self.backend.get_bucket(bucket_name).multiparts[upload_id].parts
            checksum = re.compile(f"<Checksum{announced}>([^<]+)</", re.IGNORECASE)
            compute = CHECKSUMS.get(announced.upper())
            for part in PART.findall(body if isinstance(body, str) else body.decode()):
                number, given = PART_NUMBER.search(part), checksum.search(part)
                if given is None:
                    raise InvalidRequest(
                        f"The upload was created using a {announced} checksum. The complete request must include the checksum "
                        f"for each part. It was missing for part {number[1]} in the request."
                    )
                if compute and base64.b64encode(compute(parts[int(number[1])].value)).decode() != given[1]:
                    raise InvalidPart
        return post(self, request, body, bucket_name, query, key_name)

    S3Response.upload_part = checked_upload_part
    S3Response._key_response_post = checked_post


def announced_checksum(response, upload_id: str) -> tuple[str, bool]:
    """Returns the algorithm of the checksum that an upload announced, in lower case, and whether each part must have such a
    checksum."""
    upload = response.backend.get_bucket(response.bucket_name).multiparts.get(upload_id)
    algorithm = (upload.metadata.get("x-amz-checksum-algorithm") or "").lower() if upload else ""
    is_whole = algorithm == "crc64nvme" or (upload and upload.metadata.get("x-amz-checksum-type") == "FULL_OBJECT")
    return algorithm, bool(algorithm) and not is_whole


def return_checksums_of_uploads() -> None:
    """Returns the checksum of an object as S3 does: that of a multipart upload with the number of its parts, and the type of
    the checksum. moto's HEAD has neither."""
    original = S3Response.head_object

    def head_object(self, bucket_name, query, key_name, headers):
        status, response_headers, body = original(self, bucket_name, query, key_name, headers)
        version = query.get("versionId", [None])[0]
        key = self.backend.head_object(bucket_name, key_name, version_id=version) if status == 200 else None
        if key and key.checksum_algorithm:
            name = f"x-amz-checksum-{key.checksum_algorithm.lower()}"
            if name in response_headers:
                response_headers["x-amz-checksum-type"] = key.checksum_type or "FULL_OBJECT"
                if key.checksum_type == "COMPOSITE":
                    response_headers[name] = f"{key.checksum_value}-{key.checksum_parts}"
        return status, response_headers, body

    S3Response.head_object = head_object


def given_checksum(request) -> tuple[str, str]:
    """Returns the name and value of the checksum of an object: from a header, or from the trailer after the body."""
    in_headers = [(name, value) for name, value in request.headers.items() if CHECKSUM.fullmatch(name)]
    if in_headers:
        return in_headers[0]
    if "STREAMING" in request.headers.get("x-amz-content-sha256", "") and request.headers.get("x-amz-trailer"):
        after = TRAILER.search(request.raw_body[-512:])
        if after:
            return after[1].decode(), after[2].decode()
    return "", ""
