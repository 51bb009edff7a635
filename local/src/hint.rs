//! Commands in hints and findings, with the options of the call: what is to be run next is to be run over the same lake.

use std::path::{Path, PathBuf};

use defi_shared::error::Error;

use crate::env::Env;

/// The commands that take `--lake` and `--env`.
const OVER_A_LAKE: [&str; 13] = [
    "run", "plan", "step", "query", "tables", "wallet", "get", "features", "feast", "dbt", "report", "verify", "doctor",
];

/// Those of them that take `--aws`.
const OVER_A_LAKE_IN_AWS: [&str; 7] = ["tables", "wallet", "get", "features", "report", "verify", "doctor"];

/// The commands that take `--env` and work in AWS only.
const IN_AWS: [&str; 3] = ["start", "status", "backfill"];

/// The folder of a lake without `--lake`.
pub const DEFAULT_LAKE: &str = "./lakehouse";

/// The options of a call that the commands in its hints need, too. Defaults are left out.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    lake: Option<PathBuf>,
    env: Option<Env>,
    aws: bool,
}

impl CallOptions {
    fn in_environment(env: Env) -> Self {
        CallOptions { env: Some(env).filter(|env| *env != Env::Dev), ..CallOptions::default() }
    }

    /// Returns the options of a call that works on the lake in a folder.
    #[must_use]
    pub fn in_folder(lake: &Path, env: Env) -> Self {
        let lake = Some(lake).filter(|lake| lake.as_os_str() != DEFAULT_LAKE);
        CallOptions { lake: lake.map(Path::to_owned), ..CallOptions::in_environment(env) }
    }

    /// Returns the options of a call that works on a deployed environment.
    #[must_use]
    pub fn in_aws(env: Env) -> Self {
        CallOptions { aws: true, ..CallOptions::in_environment(env) }
    }

    /// Adds the options to the commands in a text. The command that runs the pipeline in AWS is `defi start`.
    #[must_use]
    pub fn complete(&self, text: &str) -> String {
        let mut parts = text.split("defi ");
        let mut completed = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_at(part.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(part.len()));
            let name = if self.aws && name == "run" { "start" } else { name };
            completed.push_str(&format!("defi {name}{}{rest}", self.of(name)));
        }
        completed
    }

    /// Adds the options to the commands in the hint of an error.
    #[must_use]
    pub fn complete_hint(&self, error: Error) -> Error {
        let hint = self.complete(error.hint());
        error.with_hint(hint)
    }

    /// Returns the options for a command, each after a space.
    fn of(&self, name: &str) -> String {
        let takes = |commands: &[&str]| commands.contains(&name);
        let mut options = String::new();
        if let Some(lake) = self.lake.as_ref().filter(|_| takes(&OVER_A_LAKE)) {
            options.push_str(&format!(" --lake {}", quoted(&lake.display().to_string())));
        }
        if self.aws && takes(&OVER_A_LAKE_IN_AWS) {
            options.push_str(" --aws");
        }
        if let Some(env) = self.env.filter(|_| takes(&OVER_A_LAKE) || takes(&IN_AWS)) {
            options.push_str(&format!(" --env {}", env.name()));
        }
        options
    }
}

/// Puts a text in quotes if a shell would not take it as it is.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(folder: &str, env: Env) -> CallOptions {
        CallOptions::in_folder(Path::new(folder), env)
    }

    #[test]
    fn commands_get_the_options_of_the_call() {
        let hint = "build it: defi run --force; defi tables lists them";
        for (options, expected) in [
            (local(DEFAULT_LAKE, Env::Dev), hint),
            (
                local("target/x", Env::Prod),
                "build it: defi run --lake target/x --env prod --force; defi tables --lake target/x --env prod lists them",
            ),
            (CallOptions::in_aws(Env::Dev), "build it: defi start --force; defi tables --aws lists them"),
            (
                CallOptions::in_aws(Env::Prod),
                "build it: defi start --env prod --force; defi tables --aws --env prod lists them",
            ),
        ] {
            assert_eq!(options.complete(hint), expected);
        }
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        let options = local("a b's", Env::Prod);
        for text in ["", "delete the table defi_features", "secret defi-prod/graph-api-key", "see defi man --help"] {
            assert_eq!(options.complete(text), text);
        }
        assert_eq!(options.complete("with defi status"), "with defi status --env prod");
        assert_eq!(options.complete("defi query"), r"defi query --lake 'a b'\''s' --env prod");
    }
}
