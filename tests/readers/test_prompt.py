"""The prompt of `defi query`, at a pseudo terminal."""

import fcntl
import os
import pty
import re
import select
import stat
import struct
import termios
import time
from pathlib import Path

from test_readers import lake_folder

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
TIMEOUT_SECONDS = 60
UP, CTRL_C, CTRL_D = "\x1b[A", "\x03", "\x04"


class Terminal:
    """The command at a terminal of a user with a home folder of his own."""

    def __init__(self, home: Path, *options: str, columns: int = 100):
        environment = {"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "xterm"}
        command = [os.environ["DEFI_BIN"] + "/defi", "query", "--lake", str(lake_folder()), *options]
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.execve(command[0], command, environment)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.output = ""
        self.expect("defi> ")

    def send(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def expect(self, text: str) -> str:
        """Reads up to a text, and returns what came before it."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while text not in self.output:
            ready, _, _ = select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))
            try:
                read = os.read(self.terminal, 65536) if ready else b""
            except OSError:
                read = b""
            assert read, f"{text!r} does not come:\n{self.output}"
            self.output = ESCAPE.sub("", self.output + read.decode(errors="replace"))
        before, self.output = self.output.split(text, 1)
        return before

    def answer(self, entry: str, shown: str) -> str:
        """Enters a text and waits for what it shows, which must not be part of the entry, and for the next prompt. Returns
        what was shown."""
        assert shown not in entry
        self.send(f"{entry}\r")
        return self.expect(shown) + shown + self.expect("defi> ")

    def wait(self) -> int:
        """Returns the exit code."""
        try:
            while os.read(self.terminal, 65536):
                pass
        except OSError:
            pass
        _, status = os.waitpid(self.process, 0)
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(status)


def test_queries_go_over_several_lines_and_errors_do_not_end_the_prompt(tmp_path):
    terminal = Terminal(tmp_path)
    terminal.send("select 1 +\r")
    terminal.answer("2 as three, ';' as text; -- the end", "| 3     | ;    |")
    terminal.answer("select 1 as one; select 2 as two;", "| two |")
    error = terminal.answer("select nonsense;", "error: BadInput: the query can't be executed")
    assert "next: correct the SQL; defi tables --lake" in error.replace("\n", "")
    terminal.answer(".nonsense", "error: BadInput: unknown command")
    # Ctrl-C discards the entry.
    terminal.send("select 'lost")
    terminal.send(CTRL_C)
    terminal.expect("defi> ")
    terminal.answer("select 2 + 2 as four;", "| 4    |")
    terminal.send(CTRL_D)
    assert terminal.wait() == 0


def test_commands_list_tables_and_columns(tmp_path):
    terminal = Terminal(tmp_path)
    tables = terminal.answer(".tables", "Borrows, deposits, liquidations")
    assert re.search(r"^ ?lending_events ", tables, re.M) and re.search(r"^ ?db_raw_dev.transpose_borrow_events ", tables, re.M)
    assert max(map(len, tables.splitlines())) <= 100
    assert "decimal(38,0)" in terminal.answer(".schema lending_events", "bigint")
    terminal.answer(".schema nothing", "there is no such table")
    terminal.answer(".help", "list the columns of a table")
    terminal.send(".quit\r")
    assert terminal.wait() == 0


def test_tab_completes_tables_and_columns(tmp_path):
    terminal = Terminal(tmp_path)
    terminal.answer("select count(unique_lend\t) > 0 as some from db_analytics_dev.defi_features_h\t;", "| true |")
    terminal.answer("select count(*) > 0 as some from wallet_h\t;", "| true |")


def test_history_is_kept_for_the_user_alone(tmp_path):
    terminal = Terminal(tmp_path)
    terminal.answer("select 20 + 3\nas sum;".replace("\n", " "), "| 23  |")
    terminal.answer(" select 'private' || 'ly' as word;", "| privately |")
    terminal.send(CTRL_D)
    assert terminal.wait() == 0
    file = tmp_path / ".local" / "state" / "defi" / "query-history"
    assert "select 20 + 3 as sum;" in file.read_text() and "private" not in file.read_text()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)] == [0o600, 0o700]
    again = Terminal(tmp_path)
    again.answer(UP, "| 23  |")
    again.send(CTRL_D)
    assert again.wait() == 0


def test_wide_answer_fits_the_terminal(tmp_path):
    terminal = Terminal(tmp_path)
    answer = terminal.answer("select * from defi_features order by wallet_address limit 2;", "── row 2 ──")
    lines = answer.splitlines()
    assert "── row 1 ──" in lines and max(map(len, lines)) <= 100
    assert any(re.fullmatch(r"wallet_address +0x[0-9a-f]{40}", line) for line in lines)


def test_query_is_stopped_by_an_interrupt(tmp_path):
    terminal = Terminal(tmp_path)
    wallets = ", ".join(f"wallet_health_daily {name}" for name in "abcd")
    terminal.send(f"select count(*) from {wallets} where a.risk_factor + b.risk_factor > c.risk_factor + d.risk_factor;\r")
    time.sleep(3)
    terminal.send(CTRL_C)
    terminal.expect("the query was stopped")
    terminal.answer("select 5 + 5 as ten;", "| 10  |")
