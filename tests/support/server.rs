//! The command as a server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A running `defi serve`. It ends with this value.
pub struct Served {
    process: Child,
    pub graph_url: String,
    pub transpose_url: String,
}

impl Served {
    /// Starts a server on a free port, and waits until it answers.
    pub fn start(command: &mut Command) -> Served {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the command starts");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let mut served = Served { process, graph_url: String::new(), transpose_url: String::new() };
        for line in lines.map(|line| line.expect("text")) {
            if let Some(url) = line.strip_prefix("The Graph  ") {
                url.clone_into(&mut served.graph_url);
            } else if let Some(url) = line.strip_prefix("Transpose  ") {
                url.clone_into(&mut served.transpose_url);
                return served;
            }
        }
        panic!("{command:?} ended, or named no URL");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
