//! The `defi` command as a user calls it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The command with these arguments, and with nothing from the environment of the tests that it would heed.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_defi"));
    command.args(args).stdin(Stdio::null());
    let variables =
        ["GRAPH_API_KEY", "GRAPH_URL", "TRANSPOSE_API_KEY", "TRANSPOSE_URL", "DEFI_CONFIG", "DEFI_SERVE_API_KEY"];
    for variable in variables.into_iter().chain(["RUST_LOG", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]) {
        command.env_remove(variable);
    }
    command
}

/// Runs the command to its end.
pub fn output(command: &mut Command) -> Output {
    command.output().expect("the command starts")
}

/// Runs the command, which must succeed; what it printed.
pub fn succeed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}
