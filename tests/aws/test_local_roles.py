"""The local AWS behaves like AWS where the project relies on it, so that the tests on it are meaningful: roles."""

import pytest
from botocore.exceptions import ClientError

from aws import ACCOUNT, REGION
from fakes import allow, code_of, document


@pytest.fixture(scope="module")
def s3(local_aws):
    s3 = local_aws.client("s3")
    s3.create_bucket(Bucket="guarded")
    s3.put_object(Bucket="guarded", Key="raw/a", Body=b"a")
    s3.put_object(Bucket="guarded", Key="stage/a", Body=b"a")
    return s3


def test_object_access_is_limited_to_prefixes(local_aws, role, s3):
    guarded = local_aws.client_as(
        "s3", role("objects", "lambda.amazonaws.com", allow("s3:GetObject", "arn:aws:s3:::guarded/raw/*"))
    )
    assert guarded.get_object(Bucket="guarded", Key="raw/a")["Body"].read() == b"a"
    with pytest.raises(ClientError) as error:
        guarded.get_object(Bucket="guarded", Key="stage/a")
    assert code_of(error) == "AccessDenied" and "s3:GetObject" in str(error.value)
    for forbidden in (
        lambda: guarded.put_object(Bucket="guarded", Key="raw/b", Body=b"b"),
        lambda: guarded.delete_object(Bucket="guarded", Key="raw/a"),
        lambda: guarded.create_multipart_upload(Bucket="guarded", Key="raw/b"),
        lambda: guarded.copy_object(Bucket="guarded", Key="raw/b", CopySource="guarded/raw/a"),
        lambda: guarded.delete_objects(Bucket="guarded", Delete={"Objects": [{"Key": "raw/a"}]}),
        lambda: guarded.get_bucket_policy(Bucket="guarded"),
        lambda: guarded.list_buckets(),
    ):
        with pytest.raises(ClientError) as error:
            forbidden()
        assert code_of(error) == "AccessDenied"
    with pytest.raises(ClientError) as error:
        guarded.head_object(Bucket="guarded", Key="stage/a")
    assert code_of(error) == "403"
    assert s3.list_objects_v2(Bucket="guarded")["KeyCount"] == 2


def test_listings_are_limited_by_the_prefix_condition(local_aws, role, s3):
    listing = allow("s3:ListBucket", "arn:aws:s3:::guarded", StringLike={"s3:prefix": ["raw/*"]})
    guarded = local_aws.client_as("s3", role("listings", "lambda.amazonaws.com", listing))
    assert guarded.list_objects_v2(Bucket="guarded", Prefix="raw/")["KeyCount"] == 1
    for arguments in ({"Prefix": "stage/"}, {"Prefix": ""}, {}):
        with pytest.raises(ClientError) as error:
            guarded.list_objects_v2(Bucket="guarded", **arguments)
        assert code_of(error) == "AccessDenied"


def test_missing_object_is_404_only_with_list_permission(local_aws, role, s3):
    reading = allow("s3:GetObject", "arn:aws:s3:::guarded/*")
    listing = allow("s3:ListBucket", "arn:aws:s3:::guarded", StringLikeIfExists={"s3:prefix": ["raw/*"]})
    guarded = local_aws.client_as("s3", role("missing", "lambda.amazonaws.com", reading, listing))
    for key, status in (("raw/none", "404"), ("stage/none", "403")):
        with pytest.raises(ClientError) as error:
            guarded.head_object(Bucket="guarded", Key=key)
        assert code_of(error) == status


def test_missing_object_is_403_if_listings_need_a_prefix(local_aws, role, s3):
    reading = allow("s3:GetObject", "arn:aws:s3:::guarded/*")
    listing = allow("s3:ListBucket", "arn:aws:s3:::guarded", StringLike={"s3:prefix": ["raw/*"]})
    guarded = local_aws.client_as("s3", role("missing-with-prefix", "lambda.amazonaws.com", reading, listing))
    with pytest.raises(ClientError) as error:
        guarded.head_object(Bucket="guarded", Key="raw/none")
    assert code_of(error) == "403"


def test_bucket_policy_denies_by_principal_to_roles_and_administrators(local_aws, role):
    s3 = local_aws.client("s3")
    s3.create_bucket(Bucket="restricted")
    s3.put_object(Bucket="restricted", Key="a", Body=b"a")
    writing = allow(["s3:PutObject", "s3:DeleteObject", "s3:GetObject"], "arn:aws:s3:::restricted/*")
    writer, other = (role(name, "lambda.amazonaws.com", writing) for name in ("writer", "other"))
    deny = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": ["s3:PutObject*", "s3:DeleteObject*"],
        "Resource": "arn:aws:s3:::restricted/*",
        "Condition": {"ArnNotLike": {"aws:PrincipalArn": [writer]}},
    }
    s3.put_bucket_policy(Bucket="restricted", Policy=document(deny))
    local_aws.client_as("s3", writer).put_object(Bucket="restricted", Key="b", Body=b"b")
    for client in (local_aws.client_as("s3", other), s3):
        assert client.get_object(Bucket="restricted", Key="b")["Body"].read() == b"b"
        for forbidden in (
            lambda: client.put_object(Bucket="restricted", Key="a", Body=b"b"),
            lambda: client.delete_object(Bucket="restricted", Key="a"),
            lambda: client.delete_objects(Bucket="restricted", Delete={"Objects": [{"Key": "a"}]}),
        ):
            with pytest.raises(ClientError) as error:
                forbidden()
            assert code_of(error) == "AccessDenied"
    s3.delete_bucket_policy(Bucket="restricted")
    s3.put_object(Bucket="restricted", Key="a", Body=b"b")


def test_glue_requires_catalog_database_and_table(local_aws, role):
    glue, arn = local_aws.client("glue"), f"arn:aws:glue:{REGION}:{ACCOUNT}"
    for database in ("db_raw", "db_stage"):
        glue.create_database(DatabaseInput={"Name": database})
        glue.create_table(DatabaseName=database, TableInput={"Name": "events"})
    statement = allow("glue:GetTable", [f"{arn}:catalog", f"{arn}:database/db_raw", f"{arn}:table/db_raw/*"])
    guarded = local_aws.client_as("glue", role("glue", "lambda.amazonaws.com", statement))
    assert guarded.get_table(DatabaseName="db_raw", Name="events")["Table"]["Name"] == "events"
    for forbidden in (
        lambda: guarded.get_table(DatabaseName="db_stage", Name="events"),
        lambda: guarded.get_database(Name="db_raw"),
        lambda: guarded.create_table(DatabaseName="db_raw", TableInput={"Name": "others"}),
        lambda: guarded.get_partitions(DatabaseName="db_raw", TableName="events"),
    ):
        with pytest.raises(ClientError) as error:
            forbidden()
        assert code_of(error) == "AccessDeniedException"
    no_catalog = allow("glue:GetTable", [f"{arn}:database/db_raw", f"{arn}:table/db_raw/*"])
    guarded = local_aws.client_as("glue", role("glue-without-catalog", "lambda.amazonaws.com", no_catalog))
    with pytest.raises(ClientError) as error:
        guarded.get_table(DatabaseName="db_raw", Name="events")
    assert code_of(error) == "AccessDeniedException"


def test_secret_access_is_limited_by_name_and_arn(local_aws, role):
    secrets = local_aws.client("secretsmanager")
    arns = {name: secrets.create_secret(Name=name, SecretString="key")["ARN"] for name in ("ours", "theirs")}
    reading = allow("secretsmanager:GetSecretValue", arns["ours"])
    guarded = local_aws.client_as("secretsmanager", role("secrets", "lambda.amazonaws.com", reading))
    for name in ("ours", arns["ours"]):
        assert guarded.get_secret_value(SecretId=name)["SecretString"] == "key"
    for name in ("theirs", arns["theirs"]):
        with pytest.raises(ClientError) as error:
            guarded.get_secret_value(SecretId=name)
        assert code_of(error) == "AccessDeniedException"


def test_other_services_deny_access(local_aws, role):
    arn = role("nothing", "lambda.amazonaws.com")
    topic = local_aws.client("sns").create_topic(Name="guarded")["TopicArn"]
    for service, refusal, forbidden in (
        ("sns", "AuthorizationError", lambda client: client.publish(TopicArn=topic, Message="m")),
        ("stepfunctions", "AccessDeniedException", lambda client: client.list_state_machines()),
        ("logs", "AccessDeniedException", lambda client: client.create_log_stream(logGroupName="g", logStreamName="s")),
        ("lambda", "AccessDeniedException", lambda client: client.invoke(FunctionName="any")),
        ("sqs", "AccessDeniedException", lambda client: client.list_queues()),
        ("cloudwatch", "AccessDeniedException", lambda client: client.put_metric_data(Namespace="n", MetricData=[])),
    ):
        with pytest.raises(ClientError) as error:
            forbidden(local_aws.client_as(service, arn))
        assert code_of(error) == refusal, service


def test_explicit_deny_overrides_allow(local_aws, role, s3):
    deny = {"Effect": "Deny", "Action": "s3:Get*", "Resource": "arn:aws:s3:::guarded/raw/*"}
    guarded = local_aws.client_as("s3", role("deny", "lambda.amazonaws.com", allow("s3:*", "*"), deny))
    assert guarded.get_object(Bucket="guarded", Key="stage/a")
    with pytest.raises(ClientError):
        guarded.get_object(Bucket="guarded", Key="raw/a")


def test_unknown_session_is_rejected(local_aws):
    stranger = local_aws.client_with("secretsmanager", "ASIAAAAAAAAAAAAAAAAA", "secret", "token")
    with pytest.raises(ClientError) as error:
        stranger.list_secrets()
    assert code_of(error) == "InvalidClientTokenIdException"
