//! The `defi` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    defi_local::cli::main()
}
