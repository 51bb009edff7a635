//! The prompt of `defi query` on a terminal.

use std::fs;
use std::path::PathBuf;

use defi_shared::error::{Error, Result};
use rustyline::completion::Completer;
use rustyline::config::Config;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Context, Editor, Helper};

use super::completion::{Names, is_of_name};
use super::session::{Relation, Session};
use super::{answer, open, statements};
use crate::hint::CallOptions;
use crate::lake::LakeOptions;
use crate::output::{self, RowFormat, message, table};

const PROMPT: &str = "defi> ";

/// The number of entries that the history keeps.
const HISTORY: usize = 1000;

const GREETING: &str = "SQL ends with a semicolon, Ctrl-C discards it. .help lists the commands, Ctrl-D ends.";

const HELP: &str = "\
SELECT …;        run a query, over any number of lines
.tables          list the tables and views
.schema TABLE    list the columns of a table
.help            show this
.quit            end, like Ctrl-D

Tab completes tables and columns, the arrows recall earlier entries, Ctrl-R searches them. An entry that starts
with a space is not kept. Ctrl-C discards the entry or stops the query.";

/// Reads queries and commands from the terminal and runs them, until the end of the input.
///
/// # Errors
/// `BadInput` if there is no lake, and `Internal` if the terminal can't be read. The error of a query is printed.
pub async fn prompt(args: &LakeOptions, format: RowFormat) -> Result<()> {
    if let RowFormat::File(output::FileFormat::Parquet | output::FileFormat::Arrow) = format {
        return Err(Error::bad_input("the prompt can't write files")
            .with_hint("write the query into the command, with --output"));
    }
    let (lake, env) = (crate::lake::in_folder(args)?, args.env.name());
    let session = open(&lake, env).await?;
    let mut editor = editor(&session)?;
    let history = history_file();
    if let Some(path) = &history {
        // There is none before the first entry.
        let _missing = editor.load_history(path);
    }
    message(GREETING);
    loop {
        let entry = match editor.readline(PROMPT) {
            Ok(entry) => entry,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(cause) => return Err(Error::internal("the terminal can't be read").with_source(cause)),
        };
        if let Some(path) = &history {
            // A history that can't be written is no reason to end.
            let _unwritten = editor.append_history(path);
        }
        let result = match Entry::parse(&entry) {
            Entry::Quit => return Ok(()),
            Entry::Help => output::data_line(HELP),
            Entry::Tables => list_tables(&session),
            Entry::Schema(name) => list_columns(&session, name),
            Entry::Unknown => Err(Error::bad_input("unknown command").with_hint(".help lists the commands")),
            Entry::Sql => {
                let mut result = Ok(());
                for statement in statements::split(&entry) {
                    let answer = answer(&lake, env, &session, &statement, format, None);
                    result = tokio::select! {
                        result = answer => result,
                        _ = tokio::signal::ctrl_c() => Err(Error::bad_input("the query was stopped")),
                    };
                    if result.is_err() {
                        break;
                    }
                }
                result
            }
        };
        if let Err(error) = result {
            message(format_args!("error: {}", CallOptions::from(args).complete_hint(error)));
        }
    }
}

/// What somebody entered.
#[derive(Debug, PartialEq, Eq)]
enum Entry<'a> {
    Quit,
    Help,
    Tables,
    Schema(&'a str),
    Unknown,
    Sql,
}

impl<'a> Entry<'a> {
    /// Parses an entry. The commands of other prompts that people try first are understood, too.
    fn parse(text: &'a str) -> Self {
        let words: Vec<_> = text.trim().trim_end_matches(';').split_whitespace().collect();
        match words.as_slice() {
            [".quit" | ".exit" | "\\q" | "quit" | "exit"] => Entry::Quit,
            [".help" | "\\?" | "help" | "?"] => Entry::Help,
            [".tables" | "\\d" | "\\dt"] => Entry::Tables,
            [".schema" | "\\d", name] => Entry::Schema(name),
            [first, ..] if first.starts_with(['.', '\\']) => Entry::Unknown,
            _ if discards_query(text) => Entry::Quit,
            _ => Entry::Sql,
        }
    }
}

/// Returns whether the last line of an entry is the command that ends the prompt, after a query without its semicolon.
fn discards_query(text: &str) -> bool {
    let lines = text.trim_end().rsplit_once('\n');
    lines.is_some_and(|(query, line)| [".quit", ".exit"].contains(&line.trim()) && !statements::is_complete(query))
}

fn list_tables(session: &Session) -> Result<()> {
    let mut list = table(&["table", "description"], 2, 2);
    for relation in &session.relations {
        list.add_row([relation.short_name(), relation.description.clone()]);
    }
    list.wrapped().print()
}

fn list_columns(session: &Session, name: &str) -> Result<()> {
    let is_named = |relation: &&Relation| relation.short_name() == name || relation.full_name() == name;
    let relation = session.relations.iter().find(is_named).ok_or_else(|| {
        Error::bad_input("there is no such table").with("table", name).with_hint(".tables lists the tables")
    })?;
    let mut list = table(&["column", "type", "description"], 3, 3);
    for column in &relation.columns {
        list.add_row([&column.name, &column.data_type, &column.comment]);
    }
    list.wrapped().print()
}

type SqlEditor = Editor<SqlHelper, FileHistory>;

fn editor(session: &Session) -> Result<SqlEditor> {
    let unusable = |cause: ReadlineError| Error::internal("the terminal can't be used").with_source(cause);
    let config = Config::builder().max_history_size(HISTORY).map_err(unusable)?;
    let config = config.auto_add_history(true).history_ignore_space(true).completion_type(CompletionType::List);
    let mut editor = SqlEditor::with_config(config.build()).map_err(unusable)?;
    editor.set_helper(Some(SqlHelper { names: Names::new(session.relations.clone()) }));
    Ok(editor)
}

/// Returns the file of the history, in the user's folder for state: `XDG_STATE_HOME`, or else `~/.local/state`. The folder
/// is created for the user alone. Without one, there is no history.
fn history_file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let folder = state.join("defi");
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder).ok()?;
    Some(folder.join("query-history"))
}

/// Completes names, and tells whether an entry is complete.
struct SqlHelper {
    names: Names,
}

impl Helper for SqlHelper {}
impl Highlighter for SqlHelper {}

impl Hinter for SqlHelper {
    type Hint = String;
}

impl Completer for SqlHelper {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..position).unwrap_or(line);
        let start = before.trim_end_matches(is_of_name).len();
        Ok((start, self.names.complete(line, before.get(start..).unwrap_or_default())))
    }
}

impl Validator for SqlHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let is_complete = Entry::parse(text) != Entry::Sql || statements::is_complete(text);
        Ok(if is_complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_sql() {
        for (text, expected) in [
            (" .quit ", Entry::Quit),
            ("exit;", Entry::Quit),
            ("\\q", Entry::Quit),
            (".help", Entry::Help),
            ("\\d", Entry::Tables),
            ("\\d defi_features", Entry::Schema("defi_features")),
            (".schema db_raw_dev.x;", Entry::Schema("db_raw_dev.x")),
            (".schema", Entry::Unknown),
            (".nonsense 1", Entry::Unknown),
            ("", Entry::Sql),
            ("select 1;", Entry::Sql),
            ("exit from", Entry::Sql),
            ("select 1\n .quit\n", Entry::Quit),
            ("select 1;\n.quit", Entry::Sql),
            ("select 1 .quit", Entry::Sql),
        ] {
            assert_eq!(Entry::parse(text), expected, "{text:?}");
        }
    }
}
