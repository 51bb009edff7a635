//! The environment that a command works on.

/// The environment, which names the databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Env {
    /// For development.
    Dev,
    /// For production.
    Prod,
}

impl Env {
    /// The name, as in the names of the databases.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Env::Dev => "dev",
            Env::Prod => "prod",
        }
    }
}
