"""Where Terraform gives rights, compared with the list in resources.toml: a policy that is not among the rendered ones would
pass unnoticed."""

import re
from pathlib import Path

# The attributes and blocks that give rights, or decide whose rights something has.
GRANTING = "policy|assume_role_policy|trust_policy|inline_policy|managed_policy_arns|permissions|acl|grant|role|role_arn"

BLOCK = re.compile(r'^(resource|module) "(\w+)"(?: "(\w+)")? \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
START = re.compile(r"^\s*(?:resource|module)\s+\"", re.MULTILINE)
# An attribute with its lines: those that are further to the right, and a closing bracket.
ATTRIBUTE = re.compile(rf"^( +)({GRANTING})\b *(?:=|\{{)(.*(?:\n\1 +.*|\n\1[]}})].*|\n$)*)", re.MULTILINE)


def attributes(folder: Path) -> tuple[dict[str, dict[str, str]], set[str]]:
    """Returns the granting attributes of each resource and module, by its folder and address, and the types of the
    resources."""
    found, types = {}, set()
    for file in sorted(folder.rglob("*.tf")):
        if ".terraform" in file.parts:
            continue
        parent, text = file.parent.relative_to(folder).as_posix(), file.read_text()
        blocks = BLOCK.findall(text)
        assert len(blocks) == len(START.findall(text)), f"{file.name} has a block in a form that this check does not read"
        for kind, name, label, body in blocks:
            if kind == "resource":
                types.add(name)
            address = f"{name}.{label}" if kind == "resource" else f"module.{name}"
            granting = {}
            for _, attribute, value in ATTRIBUTE.findall(body):
                granting[attribute] = " and ".join([*filter(None, [granting.get(attribute)]), " ".join(value.split())])
            if granting:
                found[address if parent == "." else f"{parent}/{address}"] = granting
    return found, types


def problems_of_terraform(folder: Path, terraform: dict):
    """Yields where Terraform gives rights that resources.toml does not list, and the other way round."""
    for file in sorted(folder.rglob("*.tf.json")):
        yield f"{file.name}: this check reads no Terraform in JSON"
    found, types = attributes(folder)
    for name in sorted(types - set(terraform["types"])):
        yield f"{name}: a type of resource that resources.toml does not list: does it give rights?"
    listed = terraform["grants"]
    for address in sorted(found.keys() | listed.keys()):
        ours, theirs = found.get(address, {}), listed.get(address, {})
        for attribute in sorted(ours.keys() | theirs.keys()):
            if ours.get(attribute) != theirs.get(attribute):
                yield f"{address}: {attribute} is {ours.get(attribute)}, and {theirs.get(attribute)} in resources.toml"
