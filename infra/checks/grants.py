"""Where Terraform gives rights, compared with the list in resources.toml: a policy that is not among the rendered ones would
pass unnoticed."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hcl2.parser import hcl2
from lark import Token, Tree
from lark.exceptions import LarkError

# A name with one of these words gives rights, or decides whose rights something has: policy, permissions_boundary,
# execution_role, permissions_with_grant_option. `source_arn` is not among them: only types that resources.toml does not
# list have it.
WORDS = re.compile("polic|role|permission|principal|grant|acl|boundary")

# These types only give rights. Therefore everything in them counts, also what the rights are on.
ONLY_RIGHTS = {"aws_iam_role_policy", "aws_lakeformation_permissions", "aws_s3_bucket_policy", "aws_sns_topic_policy"}

# The kinds of blocks, and how their addresses start.
KINDS = {
    "resource": "",
    "data": "data.",
    "module": "module.",
    "output": "output.",
    "provider": "provider.",
    "variable": "var.",
    "local": "local.",  # a single value of a block `locals`
    "terraform": "terraform",
}


@dataclass
class Block:
    """A block of a file, or a local value, whose text is the value. `folder` is where the file is."""

    folder: str
    kind: str
    labels: list[str]
    body: Tree | None
    text: str

    def address(self) -> str:
        address = KINDS.get(self.kind, f"{self.kind}.") + ".".join(self.labels)
        return address if self.folder == "." else f"{self.folder}/{address}"

    def counts(self) -> dict[str, str]:
        """Returns what of the block gives rights, or may give them."""
        match self.kind:
            case "local":
                return {"value": self.text}
            case "variable":
                return granting(self.body, self.text, re.compile("^(type|default)$"))
            case "output" if WORDS.search(self.labels[0]):
                return granting(self.body, self.text, re.compile("^value$"))
            case "resource" if self.labels[0] in ONLY_RIGHTS:
                return granting(self.body, self.text, re.compile(""))
            case "resource" | "module" | "provider":
                return granting(self.body, self.text, WORDS)
        return {}


@cache
def parse(text: str) -> Tree:
    """Returns the syntax tree of a file. Refuses texts that may end at another place for Terraform than for this parser."""
    tree = hcl2.lark_parser.parse(text)
    for token in tree.scan_values(lambda value: isinstance(value, Token)):
        if token.type == "STRING_LIT" and "\n" in token:
            raise ValueError("a text over several lines must be a heredoc")
        if token.startswith("<<"):
            marker, *lines = token.lstrip("<-").split("\n")
            after = text[token.end_pos :].partition("\n")[0]
            if after or [line.strip() for line in lines].index(marker) < len(lines) - 1:
                raise ValueError("a heredoc must have a line, and end with a line that is only its marker")
    return tree


def children(body: Tree, text: str) -> Iterator[tuple[list[str], str, Tree | None]]:
    """Yields each attribute and block: its name with the labels, its text, and the body of a block."""
    for node in body.children:
        *names, last = node.children[:2] if node.data == "attribute" else node.children
        shown, inner = (last, None) if node.data == "attribute" else (node, last)
        labels = [(name.children[0] if isinstance(name, Tree) else name).strip('"') for name in names]
        yield labels, " ".join(text[shown.meta.start_pos : shown.meta.end_pos].split()), inner


def granting(body: Tree, text: str, counted: re.Pattern) -> dict[str, str]:
    """Returns the attributes and blocks whose name counts, at any depth."""
    found = {}
    for (name, *labels), value, inner in children(body, text):
        name = labels[0] if name == "dynamic" else name
        values = {name: value} if counted.search(name) else granting(inner, text, counted) if inner else {}
        for key, more in values.items():
            found[key] = f"{found[key]} and {more}" if key in found else more
    return found


def blocks_of(file: Path, folder: str) -> Iterator[Block]:
    """Yields the blocks of a file, and each local value as a block."""
    text = file.read_text()
    for (kind, *labels), _, body in children(parse(text).children[0], text):
        if kind == "locals":
            yield from (Block(folder, "local", [name], None, value) for (name, *_), value, _ in children(body, text))
        else:
            yield Block(folder, kind, labels, body, text)


def problems_of_block(block: Block, types: list[str], folders: set[Path], folder: Path) -> Iterator[str]:
    """Yields what a block must not be or have. `folders` are those with Terraform files."""
    if block.kind == "local":
        return
    if block.kind not in KINDS:
        yield f"{block.kind}: a kind of block that this check does not know"
    attributes = {name: value for (name, *_), value, _ in children(block.body, block.text)}
    if block.kind in ("resource", "data"):
        name = KINDS[block.kind] + block.labels[0]
        if name not in types:
            yield f"{name}: a type that resources.toml does not list: does it give rights?"
        if "provisioner" in attributes:
            yield f"{block.address()}: has a provisioner, a program that runs with the rights of whoever deploys"
    if block.kind == "module":
        source = attributes.get("source", "").strip('"')
        if not source.startswith(("./", "../")) or (folder / block.folder / source).resolve() not in folders:
            yield f"{block.address()}: its source {source} is no folder of infra with Terraform files"


def counted(blocks: list[Block], listed: dict) -> dict[str, dict[str, str]]:
    """Returns what gives rights, by address. A variable counts if it is listed, and so does a local value. A local value also
    counts if what gives rights names it, unless it is rendered: then `local.policies` names it."""
    found = {block.address(): block.counts() for block in blocks}
    rendered = re.findall(r"\blocal\.(\w+)", found.get("local.policies", {}).get("value", ""))
    addresses = {*listed}
    for block in blocks:
        if block.kind not in ("local", "variable"):
            addresses.add(block.address())
            named = re.findall(r"\blocal\.(\w+)", " ".join(block.counts().values()))
            addresses |= {Block(block.folder, "local", [name], None, "").address() for name in named if name not in rendered}
    return {address: counts for address, counts in found.items() if address in addresses}


def problems_of_terraform(folder: Path, terraform: dict) -> Iterator[str]:
    """Yields where Terraform gives rights that resources.toml does not list, and the other way round."""
    files = [file for file in sorted(folder.rglob("*.tf")) if not {".terraform", "node_modules"} & set(file.relative_to(folder).parts)]
    for file in sorted(folder.rglob("*.tf.json")):
        yield f"{file.relative_to(folder)}: this check reads no Terraform in JSON"
    blocks = []
    for file in files:
        name = file.relative_to(folder)
        if file.stem == "override" or file.stem.endswith("_override"):
            yield f"{name}: an override file, which changes the blocks of other files"
        try:
            blocks += blocks_of(file, name.parent.as_posix())
        except (LarkError, ValueError) as error:
            yield f"{name}: is not read: {str(error).splitlines()[0]}"
    folders = {file.parent.resolve() for file in files}
    for block in blocks:
        yield from problems_of_block(block, terraform["types"], folders, folder)
    for address, number in Counter(block.address() for block in blocks if block.kind != "terraform").items():
        if number > 1:
            yield f"{address}: exists {number} times"
    found, listed = counted(blocks, terraform["grants"]), terraform["grants"]
    for address in sorted(found.keys() | listed.keys()):
        ours, theirs = found.get(address, {}), listed.get(address, {})
        for attribute in sorted(ours.keys() | theirs.keys()):
            if ours.get(attribute) != theirs.get(attribute):
                yield f"{address}: {attribute} is {ours.get(attribute)}, and {theirs.get(attribute)} in resources.toml"
