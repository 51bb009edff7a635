"""Where Terraform gives rights, compared with the list in resources.toml: a policy that is not among the rendered ones would
pass unnoticed."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hcl2.parser import hcl2
from lark import Tree
from lark.exceptions import LarkError

# A name with one of these words gives rights, or decides whose rights something has: policy, permissions_boundary,
# execution_role, permissions_with_grant_option. Or it decides who can read the data: with which key they are encrypted, and
# where they go (kms_key_id, replica, output_location), and who may call a URL (authorization_type). Or which code runs with
# a role: layers, image_uri, s3_bucket.
# Or which objects are deleted without anybody's doing (expire_days).
# `source_arn` is not among them: only types that resources.toml does not list have it. With ignore_changes, rights that
# somebody else changed stay.
WORDS = re.compile(
    "polic|role|permission|principal|grant|acl|boundary|ignore_changes"
    "|encrypt|kms|replica|location|layers|image_uri|s3_bucket|s3_key|authorization|expire"
)

# Of a module also what it is made of, and how often it exists.
WORDS_OF_MODULES = re.compile(f"{WORDS.pattern}|^(source|count|for_each|providers)$")

# These types only give rights, or take them away, or delete objects. Therefore everything in them counts, also what the rights
# are on, and how often the resource exists.
COUNTS_WHOLE = {
    "aws_iam_role_policy",
    "aws_lakeformation_permissions",
    "aws_s3_bucket_lifecycle_configuration",
    "aws_s3_bucket_ownership_controls",
    "aws_s3_bucket_policy",
    "aws_s3_bucket_public_access_block",
    "aws_sns_topic_policy",
}

# What these blocks, and the files *.tfbackend, may have. Other settings run programs of the configuration (a profile with
# `credential_process`), install other providers, or send requests and the state elsewhere.
SETTINGS = {
    "provider": r"(region|allowed_account_ids|default_tags tags) = .*|default_tags",
    "terraform": r"required_version = .*|backend s3|backend s3 (key|encrypt|use_lockfile) = .*"
    r'|required_providers|required_providers aws = \{ source = "hashicorp/aws" version = "[^"]*" \}',
    "tfbackend": r"(bucket|region) = .*",
}

# What may have another value in a deployment than in the copy that `render` makes, which lacks some files: functions that look
# at files, the time, or chance, and templates made of texts. With the first argument, if that is a text or a name.
OUTSIDE = re.compile(
    r"\b(?:abspath|bcrypt|file\w*|pathexpand|plantimestamp|template\w+|timestamp|uuid)\s*\("
    r'(?:\s*(?:"[^"\n]*"|[\w.]+)\s*(?:\)|(?=,)))?|\bpath\s*\.\s*cwd\b'
)

# The only provider of the lock files.
LOCKED = ["registry.terraform.io/hashicorp/aws"]

# The forms of texts and heredocs that end at the same place for Terraform and for the parser of this check. An
# interpolation is in one line. It has no braces, no `/` and `#`, which may start a comment, and only texts without escapes
# and interpolations. Directives (`%{`) and escaped interpolations (`$${`) are refused, and so are characters as numbers
# (`\u006f`), with which a label could hide a word. A heredoc has its marker only in the first line and alone in the last.
INTERPOLATION = r'\$\{(?:[^"{}\\/#\n]|"[^"\\$%\n]*")*\}'
SIGN = r"[$%](?![$%{\\])"
TEXT = re.compile(rf'"(?:[^"\\$%\n]|\\["\\nrt]|{SIGN}|{INTERPOLATION})*"')
HEREDOC = re.compile(rf"<<-?([A-Za-z0-9_]+)\n(?:(?!\1)(?:[^$%]|{SIGN}|{INTERPOLATION}))+\n[ \t]*\1")

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

# How others of these kinds are named.
REFERENCES = {
    "local": r"\blocal\.(\w+)",
    "variable": r"\bvar\.(\w+)",
    "output": r"\bmodule\.\w+(?:\[[^\]]*\])?\.(\w+)",
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
                return granting(self.body, self.text, re.compile("^(type|default|nullable)$"))
            case "output":
                return granting(self.body, self.text, re.compile("^value$"))
            case "resource" if self.labels[0] in COUNTS_WHOLE:
                return granting(self.body, self.text, re.compile(""))
            case "resource":
                return granting(self.body, self.text, WORDS)
            case "module":
                return granting(self.body, self.text, WORDS_OF_MODULES)
        return {}


@cache
def parse(text: str) -> Tree:
    """Returns the syntax tree of a file. Refuses what may end at another place for Terraform than for this parser."""
    if "\r" in text:
        raise ValueError("a carriage return")
    parser = hcl2.lark_parser.parse_interactive(text)
    tokens = parser.exhaust_lexer()
    starts, ends = [token.start_pos for token in tokens], [token.end_pos for token in tokens]
    if any("/*" in text[end:start] for end, start in zip([0, *ends], [*starts, len(text)], strict=True)):
        raise ValueError("a comment between /* and */: use #")
    for token in tokens:
        if token.type == "STRING_LIT" and not TEXT.fullmatch(token):
            raise ValueError("a text in another form than TEXT of grants.py")
        if token.startswith("<<") and not (HEREDOC.fullmatch(token) and text.startswith("\n", token.end_pos)):
            raise ValueError("a heredoc in another form than HEREDOC of grants.py")
    return parser.feed_eof()


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


def settings(body: Tree, text: str, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields each attribute and block at any depth as a line: where it is, its name, and the value of an attribute."""
    for names, value, inner in children(body, text):
        line = " ".join([*path, *names])
        yield line if inner else f"{line} = {value}"
        if inner:
            yield from settings(inner, text, (*path, *names))


def other_settings(kind: str, body: Tree, text: str) -> Iterator[str]:
    """Yields the settings of a block or a file that SETTINGS does not have."""
    return (line for line in settings(body, text) if not re.fullmatch(SETTINGS[kind], line))


def read(file: Path) -> str:
    """Returns the text of a file with the ends of lines that it has."""
    return file.read_bytes().decode()


def blocks_of(file: Path, folder: str) -> Iterator[Block]:
    """Yields the blocks of a file, and each local value as a block."""
    text = read(file)
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
    if block.kind == "provider" and block.labels != ["aws"]:
        yield f"{block.address()}: another provider than that of AWS"
    if block.kind in SETTINGS:
        for line in other_settings(block.kind, block.body, block.text):
            yield f"{block.address()}: {line}: a setting that SETTINGS of grants.py does not have"
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


def named(block: Block, blocks: list[Block]) -> Iterator[Block]:
    """Yields the local values, variables and outputs of modules that the counted text of a block names."""
    text = " ".join(block.counts().values())
    names = {kind: set(re.findall(pattern, text)) for kind, pattern in REFERENCES.items()}
    for other in blocks:
        is_near = other.folder.startswith("modules/") if other.kind == "output" else other.folder == block.folder
        if is_near and other.labels and other.labels[0] in names.get(other.kind, ()):
            yield other


def counted(blocks: list[Block], listed: dict) -> dict[str, dict[str, str]]:
    """Returns what gives rights, by address. A local value, a variable or an output counts if it is listed, or if what gives
    rights names it: the type of a variable drops what it does not have. Not so a local value that is rendered: then
    `local.policies` names it. `local.steps` is rendered, too, since each step has a policy."""
    policies = " ".join(block.text for block in blocks if block.address() == "local.policies")
    rendered = {f"local.{name}" for name in ["steps", *re.findall(REFERENCES["local"], policies)]}
    waiting = [
        block
        for block in blocks
        if block.address() in listed or block.kind not in REFERENCES or (block.kind == "output" and WORDS.search(block.labels[0]))
    ]
    found = {}
    while waiting:
        block = waiting.pop()
        if block.address() not in found:
            found[block.address()] = block.counts()
            waiting += [other for other in named(block, blocks) if other.address() not in rendered]
    return found


def problems_of_file(file: Path, name: Path) -> Iterator[str]:
    """Yields whether a file must not exist, and what must not be in a file of the backend or of the locked provider."""
    if name.name.endswith(".tf.json"):
        yield f"{name}: this check reads no Terraform in JSON"
    if name.suffix == ".tf" and (name.stem == "override" or name.stem.endswith("_override")):
        yield f"{name}: an override file, which changes the blocks of other files"
    if name.suffix == ".tf" and name.name.startswith("."):
        yield f"{name}: a hidden file, which Terraform does not read"
    if name.suffix == ".tfbackend":
        for line in other_settings("tfbackend", parse(read(file)).children[0], read(file)):
            yield f"{name}: {line}: a setting that SETTINGS of grants.py does not have"
    if name.name == ".terraform.lock.hcl":
        locked = [" ".join(block.labels) for block in blocks_of(file, ".")]
        if locked != LOCKED:
            yield f"{name}: locks {', '.join(locked) or 'nothing'} instead of {', '.join(LOCKED)}"


def problems_of_calls(file: Path, name: Path, listed: list[str]) -> Iterator[str]:
    """Yields what of OUTSIDE a file of Terraform or a template has, but resources.toml does not, and the other way round."""
    found = [" ".join(call.split()) for call in OUTSIDE.findall(read(file))]
    if Counter(found) != Counter(listed):
        yield f"{name}: looks outside with {', '.join(found) or 'nothing'}, and with {', '.join(listed) or 'nothing'} in resources.toml"


def problems_of_terraform(folder: Path, terraform: dict) -> Iterator[str]:
    """Yields where Terraform gives rights that resources.toml does not list, and the other way round."""
    files, blocks = [], []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if {".terraform", "node_modules"} & set(name.parts):
            continue
        try:
            yield from problems_of_file(file, name)
            if name.name.endswith((".tf", ".asl.json")):
                yield from problems_of_calls(file, name, terraform["looks_outside"].get(name.as_posix(), []))
            if file.suffix == ".tf":
                files.append(file)
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
