//! Runs the `defi` command as a user does.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Returns the `defi` command with the given arguments, without the environment variables that would change its
/// behaviour.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_defi"));
    command.args(args).stdin(Stdio::null());
    let variables = [
        "GRAPH_API_KEY",
        "GRAPH_URL",
        "TRANSPOSE_API_KEY",
        "TRANSPOSE_URL",
        "DEFI_CONFIG",
        "DEFI_SERVE_API_KEY",
        "ETHEREUM_RPC_URL",
    ];
    for variable in variables.into_iter().chain(["RUST_LOG", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]) {
        command.env_remove(variable);
    }
    command
}

/// Runs the command and waits until it ends.
pub fn output(command: &mut Command) -> Output {
    command.output().expect("the command starts")
}

/// Runs the command, asserts that it succeeds, and returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Returns a path as a string, for use as an argument.
pub fn path_str(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}
