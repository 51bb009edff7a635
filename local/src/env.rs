//! The environment that a command works on.

/// The environment. Its name is part of the database names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Env {
    /// Development.
    Dev,
    /// Production.
    Prod,
}

impl Env {
    /// Returns the name, as in the database names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Env::Dev => "dev",
            Env::Prod => "prod",
        }
    }
}
