//! The `defi serve` command as a test server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A running `defi serve` process. It is killed when this value is dropped.
pub struct ServeProcess {
    process: Child,
    pub graph_url: String,
    pub transpose_url: String,
}

impl ServeProcess {
    /// Starts the server and waits until it prints its URLs.
    pub fn start(command: &mut Command) -> ServeProcess {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the command starts");
        let lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let mut server = ServeProcess { process, graph_url: String::new(), transpose_url: String::new() };
        for line in lines.map(|line| line.expect("UTF-8")) {
            if let Some(url) = line.strip_prefix("The Graph  ") {
                url.clone_into(&mut server.graph_url);
            } else if let Some(url) = line.strip_prefix("Transpose  ") {
                url.clone_into(&mut server.transpose_url);
                return server;
            }
        }
        panic!("{command:?} ended without printing its URLs");
    }
}

impl Drop for ServeProcess {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
