"""The local AWS behaves like AWS where the project relies on it: objects, catalog, secrets and messages."""

import base64
import hashlib
import json

import pytest
from botocore.exceptions import ClientError

from fakes import code_of, document


@pytest.fixture(scope="module")
def s3(local_aws):
    local_aws.client("s3").create_bucket(Bucket="objects")
    return local_aws.client("s3")


def test_tls_only_policy_allows_all_requests(s3):
    s3.create_bucket(Bucket="tls-only")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::tls-only/*"}
    s3.put_bucket_policy(Bucket="tls-only", Policy=document({**deny, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}))
    s3.put_object(Bucket="tls-only", Key="key", Body=b"body")
    assert s3.get_object(Bucket="tls-only", Key="key")["Body"].read() == b"body"
    s3.put_bucket_policy(Bucket="tls-only", Policy=document(deny))
    with pytest.raises(ClientError):
        s3.get_object(Bucket="tls-only", Key="key")


def test_conditional_writes_check_their_condition(s3):
    etag = s3.put_object(Bucket="objects", Key="state", Body=b"1", IfNoneMatch="*")["ETag"]
    for arguments in ({"IfNoneMatch": "*"}, {"IfMatch": '"0123456789abcdef0123456789abcdef"'}):
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket="objects", Key="state", Body=b"2", **arguments)
        assert code_of(error) == "PreconditionFailed"
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert s3.get_object(Bucket="objects", Key="state")["Body"].read() == b"1"
    s3.put_object(Bucket="objects", Key="state", Body=b"2", IfMatch=etag)
    assert s3.get_object(Bucket="objects", Key="state")["Body"].read() == b"2"
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="objects", Key="missing", Body=b"2", IfMatch=etag)
    assert code_of(error) == "NoSuchKey"


def test_conditional_multipart_uploads_check_their_condition(s3):
    def upload(**condition):
        names = {"Bucket": "objects", "Key": "large"}
        upload = s3.create_multipart_upload(**names, ChecksumAlgorithm="CRC32")["UploadId"]
        part = s3.upload_part(**names, UploadId=upload, PartNumber=1, Body=b"part")
        parts = {"Parts": [{"ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"], "PartNumber": 1}]}
        return s3.complete_multipart_upload(**names, UploadId=upload, MultipartUpload=parts, **condition)["ETag"]

    etag = upload(IfNoneMatch="*")
    for arguments in ({"IfNoneMatch": "*"}, {"IfMatch": '"0123456789abcdef0123456789abcdef-1"'}):
        with pytest.raises(ClientError) as error:
            upload(**arguments)
        assert code_of(error) == "PreconditionFailed"
    upload(IfMatch=etag)


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA256"])
def test_checksums_and_metadata_are_returned(s3, algorithm):
    try:
        s3.put_object(Bucket="objects", Key="sum", Body=b"body", ChecksumAlgorithm=algorithm, Metadata={"unit": "day"})
    except Exception as cause:
        # The client needs an additional library for some algorithms. Their values are given here instead.
        if "MissingDependency" not in type(cause).__name__:
            raise
        values = {"CRC32C": "MbM8lQ==", "CRC64NVME": "AAAAAAAAAAA="}
        s3.put_object(
            Bucket="objects", Key="sum", Body=b"body", **{f"Checksum{algorithm}": values[algorithm]}, Metadata={"unit": "day"}
        )
    head = s3.head_object(Bucket="objects", Key="sum", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] and head["Metadata"] == {"unit": "day"}


def test_wrong_checksum_is_rejected(s3):
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="objects", Key="wrong", Body=b"body", ChecksumSHA256="x" * 43 + "=")
    assert code_of(error) in ("BadDigest", "InvalidRequest")


def test_checksum_of_an_upload_is_that_of_its_parts(s3):
    names = {"Bucket": "objects", "Key": "parts"}
    bodies = [bytes(5 << 20), b"end"]
    sums = [hashlib.sha256(body).digest() for body in bodies]

    def upload(complete_with):
        upload = s3.create_multipart_upload(**names, ChecksumAlgorithm="SHA256")["UploadId"]
        parts = [
            s3.upload_part(**names, UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="SHA256")
            for number, body in enumerate(bodies, 1)
        ]
        parts = [{"ETag": part["ETag"], "PartNumber": number, **complete_with(part)} for number, part in enumerate(parts, 1)]
        s3.complete_multipart_upload(**names, UploadId=upload, MultipartUpload={"Parts": parts})

    upload(lambda part: {"ChecksumSHA256": part["ChecksumSHA256"]})
    head = s3.head_object(**names, ChecksumMode="ENABLED")
    expected = base64.b64encode(hashlib.sha256(b"".join(sums)).digest()).decode()
    assert (head["ChecksumSHA256"], head["ChecksumType"]) == (f"{expected}-2", "COMPOSITE")
    for complete_with, code in (({}, "InvalidRequest"), ({"ChecksumSHA256": expected}, "InvalidPart")):
        with pytest.raises(ClientError) as error:
            upload(lambda part: complete_with)
        assert code_of(error) == code
    upload_id = s3.create_multipart_upload(**names, ChecksumAlgorithm="SHA256")["UploadId"]
    with pytest.raises(ClientError) as error:
        s3.upload_part(**names, UploadId=upload_id, PartNumber=1, Body=b"end", ChecksumAlgorithm="CRC32")
    assert code_of(error) == "InvalidRequest"


def test_listings_are_paged(s3):
    s3.create_bucket(Bucket="pages")
    keys = [f"raw/{number:03}" for number in range(7)]
    for key in keys:
        s3.put_object(Bucket="pages", Key=key, Body=b"")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="pages", Prefix="raw/", PaginationConfig={"PageSize": 3}))
    assert [[entry["Key"] for entry in page["Contents"]] for page in pages] == [keys[:3], keys[3:6], keys[6:]]
    assert [page["IsTruncated"] for page in pages] == [True, True, False]


def test_suspended_bucket_can_be_emptied_page_by_page(s3):
    s3.create_bucket(Bucket="versioned")
    s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    for key in ("a", "b", "b", "c", "d"):
        s3.put_object(Bucket="versioned", Key=key, Body=b"")
    s3.delete_object(Bucket="versioned", Key="c")
    s3.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Suspended"})
    page, marker = {"IsTruncated": True}, {}
    left = versions_left(s3, "versioned")
    assert left == 6
    while page["IsTruncated"]:
        page = s3.list_object_versions(Bucket="versioned", MaxKeys=2, **marker)
        deleted = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        found = [{name: version[name] for name in ("Key", "VersionId")} for version in deleted]
        assert "Errors" not in s3.delete_objects(Bucket="versioned", Delete={"Objects": found})
        left -= len(found)
        assert versions_left(s3, "versioned") == left
        marker = {"KeyMarker": page.get("NextKeyMarker"), "VersionIdMarker": page.get("NextVersionIdMarker")}
    s3.delete_bucket(Bucket="versioned")


def versions_left(s3, bucket) -> int:
    listed = s3.list_object_versions(Bucket=bucket)
    return len(listed.get("Versions", [])) + len(listed.get("DeleteMarkers", []))


@pytest.fixture(scope="module")
def glue(local_aws):
    glue = local_aws.client("glue")
    glue.create_database(DatabaseInput={"Name": "catalog"})
    keys = [{"Name": "year", "Type": "string"}, {"Name": "month", "Type": "string"}]
    glue.create_table(
        DatabaseName="catalog", TableInput={"Name": "days", "PartitionKeys": keys, "StorageDescriptor": columns()}
    )
    return glue


def test_each_existing_partition_is_an_error(glue):
    add = [{"Values": ["2023", f"{month:02}"], "StorageDescriptor": columns()} for month in range(1, 13)]
    assert not glue.batch_create_partition(DatabaseName="catalog", TableName="days", PartitionInputList=add[:10]).get("Errors")
    errors = glue.batch_create_partition(DatabaseName="catalog", TableName="days", PartitionInputList=add)["Errors"]
    assert [error["PartitionValues"][1] for error in errors] == [f"{month:02}" for month in range(1, 11)]
    assert {error["ErrorDetail"]["ErrorCode"] for error in errors} == {"AlreadyExistsException"}
    paginator = glue.get_paginator("get_partitions")
    pages = list(
        paginator.paginate(DatabaseName="catalog", TableName="days", PaginationConfig={"PageSize": 5}, ExcludeColumnSchema=True)
    )
    found = [partition["Values"][1] for page in pages for partition in page["Partitions"]]
    assert sorted(found) == [f"{month:02}" for month in range(1, 13)] and len(pages) == 3


def test_batch_has_at_most_100_partitions(glue):
    add = [{"Values": ["1999", str(number)], "StorageDescriptor": columns()} for number in range(101)]
    with pytest.raises(ClientError):
        glue.batch_create_partition(DatabaseName="catalog", TableName="days", PartitionInputList=add)


def test_table_update_checks_its_version(glue):
    def update(name: str, **arguments):
        table = {"Name": "versions", "StorageDescriptor": columns(name)}
        glue.update_table(DatabaseName="catalog", TableInput=table, **arguments)

    def version() -> str:
        return glue.get_table(DatabaseName="catalog", Name="versions")["Table"]["VersionId"]

    glue.create_table(DatabaseName="catalog", TableInput={"Name": "versions", "StorageDescriptor": columns()})
    first = version()
    update("b", VersionId=first)
    assert version() != first
    with pytest.raises(ClientError) as error:
        update("c", VersionId=first)
    assert code_of(error) == "ConcurrentModificationException"
    kept = len(glue.get_table_versions(DatabaseName="catalog", TableName="versions")["TableVersions"])
    update("d", VersionId=version(), SkipArchive=True)
    assert len(glue.get_table_versions(DatabaseName="catalog", TableName="versions")["TableVersions"]) == kept


def columns(name: str = "a") -> dict:
    return {"Columns": [{"Name": name, "Type": "string"}], "Location": "s3://catalog/days/"}


def test_empty_secret_has_no_value(local_aws):
    secrets = local_aws.client("secretsmanager")
    secrets.create_secret(Name="empty")
    with pytest.raises(ClientError) as error:
        secrets.get_secret_value(SecretId="empty")
    assert code_of(error) == "ResourceNotFoundException"


def test_queue_receives_filtered_messages(local_aws):
    sns, sqs = local_aws.client("sns"), local_aws.client("sqs")
    topic = sns.create_topic(Name="messages")["TopicArn"]
    queue = sqs.create_queue(QueueName="messages")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    filtered = {"RawMessageDelivery": "true", "FilterPolicy": json.dumps({"outcome": ["failed"]})}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=filtered)
    for outcome in ("succeeded", "failed"):
        attributes = {"outcome": {"DataType": "String", "StringValue": outcome}}
        sns.publish(TopicArn=topic, Message=f"it {outcome}", MessageAttributes=attributes)
    messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    assert [message["Body"] for message in messages] == ["it failed"]


def test_enforced_workgroup_refuses_a_place_of_its_own_for_a_table(local_aws):
    athena = local_aws.client("athena")
    for name, enforced in (("enforced", True), ("free", False)):
        configuration = {"EnforceWorkGroupConfiguration": enforced, "ResultConfiguration": {"OutputLocation": "s3://objects/results/"}}
        athena.create_work_group(Name=name, Configuration=configuration)
    athena.create_work_group(Name="unsaid", Configuration={"ResultConfiguration": {"OutputLocation": "s3://objects/results/"}})
    # As Feast writes it.
    elsewhere = """
        CREATE TABLE _0a1b
        WITH (
        external_location = 's3://objects/unload/0a1b',
        format = 'parquet'
        )
        as SELECT 1 AS one
    """
    for group in ("enforced", "unsaid"):
        with pytest.raises(ClientError) as error:
            athena.start_query_execution(QueryString=elsewhere, WorkGroup=group)
        assert code_of(error) == "InvalidRequestException" and "enforces a centralized output location" in str(error.value)
    assert athena.start_query_execution(QueryString=elsewhere, WorkGroup="free")["QueryExecutionId"]
    for query in ("CREATE TABLE t WITH (format = 'parquet') AS SELECT 1 AS one", "SELECT 'with (external_location = x)'"):
        assert athena.start_query_execution(QueryString=query, WorkGroup="enforced")["QueryExecutionId"], query
