//! The configuration of the commands.

use std::path::Path;

use defi_shared::config::Config;
use defi_shared::error::Result;

/// Reads the configuration: the file that `DEFI_CONFIG` names, or the built-in one.
///
/// # Errors
/// `BadInput` for a file that can't be read or is invalid.
pub fn configuration() -> Result<Config> {
    match std::env::var_os("DEFI_CONFIG") {
        Some(path) => Config::from_file(Path::new(&path)),
        None => Config::built_in(),
    }
}
