//! The command line: parses the arguments, runs the command and reports its error.

mod args;

use std::ffi::OsString;
use std::fmt::Debug;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, ValueEnum};
use clap_complete::Shell;
#[cfg(feature = "aws")]
use defi_shared::domain::Day;
use defi_shared::error::{Error, Kind, Result};
use defi_shared::logging::without_hosts;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use self::args::{Command, DoctorArgs, FeaturesArgs, GetArgs, QueryArgs, StepArgs, VerifyArgs, WalletArgs};
use crate::features::RowSelection;
use crate::output::{FileFormat, escape, message};
use crate::source::Source;

/// The help text below the list of commands.
const AFTER_HELP: &str = "Exit codes: 0 success, 1 failure, 2 invalid input. An error is one line with its kind and a hint.\n\
    Colours and progress bars are used on terminals only. NO_COLOR disables colours.\n\n\
    Examples:\n  defi run\n  defi tables\n  defi query \"select * from db_analytics_dev.defi_features limit 10\"\n  \
    defi features --at-borrows --format parquet --output training.parquet";

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Human-readable lines.
    Text,
    /// One JSON object per line.
    Json,
}

/// Compute daily features of wallets from on-chain lending activity, and query the results.
#[derive(Debug, Parser)]
#[command(name = "defi", version, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    /// Format of the log on standard error; RUST_LOG sets the log level (default: errors only)
    // Listed after the options of the command.
    #[arg(long, global = true, value_enum, default_value = "text", display_order = 900)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// Runs the command. Results go to standard output, an error as one line to standard error.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(arguments()) {
        Ok(cli) => cli,
        Err(error) => return print_usage(&error),
    };
    init_logging(cli.log_format);
    let options = cli.command.options();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli.command)),
        Err(cause) => Err(Error::internal("can't start the async runtime").with_source(cause)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = options.complete_hint(error);
            message(format_args!("error: {error}"));
            ExitCode::from(if error.kind() == Kind::BadInput { 2 } else { 1 })
        }
    }
}

/// Returns the arguments of the process. SQL that starts with a comment looks like an option: a space before it makes it
/// a value. A comment of one line is no query, so that it stays an unknown option.
fn arguments() -> impl Iterator<Item = OsString> {
    let is_query = std::env::args_os().nth(1).is_some_and(|name| name == "query");
    let is_sql = move |text: &str| is_query && text.starts_with('-') && text.contains('\n');
    std::env::args_os().map(move |argument| match argument.to_str() {
        Some(text) if is_sql(text) => format!(" {text}").into(),
        _ => argument,
    })
}

/// Starts logging to standard error, at the level that `RUST_LOG` sets. The default is errors only.
fn init_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "error".into());
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match format {
        LogFormat::Text => subscriber.fmt_fields(escaped_fields()).finish().with(without_hosts()).init(),
        LogFormat::Json => subscriber.json().finish().with(without_hosts()).init(),
    }
}

/// Formats the fields of log lines in text form, escaped: they contain messages of the sources.
fn escaped_fields() -> impl for<'a> FormatFields<'a> + 'static {
    let field = |writer: &mut Writer<'_>, field: &Field, value: &dyn Debug| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", escape(&value)),
            name => write!(writer, "{name}={}", escape(&value)),
        }
    };
    debug_fn(field).delimited(" ")
}

/// Prints help and version in clap's format, and a usage error as one line, like every other error.
fn print_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let printed = crate::output::allow_broken_pipe(error.print());
        return if printed.is_ok() && !error.use_stderr() { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    let text = error.to_string();
    let lines: Vec<_> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
    let text = lines.join(" ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // The error of a value that one of our types refused, such as a day, has a kind and a hint of its own.
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>());
    let error = match cause {
        Some(cause) => {
            Error::bad_input(text.replace(&cause.to_string(), &cause.details())).with_hint(cause.hint().to_owned())
        }
        None => Error::bad_input(text).with_hint(format!("see {} --help", called_command())),
    };
    message(format_args!("error: {error}"));
    ExitCode::from(2)
}

/// Returns `defi` with the subcommand of this process, such as `defi run`. Without a known subcommand, `defi`.
fn called_command() -> String {
    let name = std::env::args().nth(1);
    let known = name.filter(|name| Cli::command().get_subcommands().any(|command| command.get_name() == name));
    known.map_or_else(|| "defi".to_owned(), |name| format!("defi {name}"))
}

async fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => crate::run::run(args.run.options(args.json)?).await,
        Command::Plan(args) => crate::run::forecast(&args.run.options(args.json)?, args.units).await,
        Command::Step(args) => step(args).await,
        Command::Doctor(args) => doctor(args).await,
        Command::Completions(args) => completions(args.shell),
        Command::Man(args) => man(&args.folder),
        Command::Serve(args) => match &args.node_url {
            Some(url) => crate::source::serve_node(url, &args.node_faults, args.port).await,
            None => crate::source::serve(&args.sample.source(), args.port, args.history).await,
        },
        Command::Tables(args) => crate::tables::list(&args.lake.into(), args.format).await,
        Command::Query(args) => query(args).await,
        Command::Wallet(args) => wallet(args).await,
        Command::Get(args) => get(args).await,
        Command::Features(args) => features(args).await,
        Command::Feast(args) => crate::export::feast::write(&args.into()).await,
        Command::Dbt(args) => crate::export::dbt::write(&args.into()).await,
        Command::Verify(args) => verify(args).await,
        Command::Report(args) => crate::report::report(&args.into()).await,
        Command::Start(_) | Command::Status(_) | Command::Backfill(_) => run_in_aws(command).await,
    }
}

#[cfg(feature = "aws")]
async fn run_in_aws(command: Command) -> Result<()> {
    use crate::aws::{self, ExecutionInput};

    let input = |options: args::StartOptions, as_of| ExecutionInput {
        as_of,
        from: options.from,
        force: options.force,
        retry_lost: options.retry_lost,
        rebuild_lost: options.rebuild_lost,
        allow_concurrent: options.allow_concurrent,
    };
    match command {
        Command::Start(args) => {
            reject_rpc_url(&args.options)?;
            reject_reversed(args.options.from, args.as_of.map(|day| ("--as-of", day)))?;
            let (env, json) = (args.options.env, args.options.json);
            aws::start(env, &input(args.options, args.as_of), args.detach, json).await
        }
        Command::Status(args) => {
            aws::status(args.env, args.execution.as_deref(), args.follow, args.count, args.json).await
        }
        Command::Backfill(args) => {
            reject_rpc_url(&args.options)?;
            reject_reversed(args.options.from, Some(("the first day", args.first)))?;
            let (env, days, json) = (args.options.env, (args.first, args.last), args.options.json);
            aws::backfill(env, days, args.every, &input(args.options, None), args.page.as_deref(), json).await
        }
        _ => Err(Error::internal("this command does not run in AWS")),
    }
}

/// Rejects the URL of a node, which the functions read themselves.
#[cfg(feature = "aws")]
fn reject_rpc_url(options: &args::StartOptions) -> Result<()> {
    match options.rpc_url {
        None => Ok(()),
        Some(_) => Err(Error::bad_input("a run in AWS takes no --rpc-url: its functions read the URL of the node from Secrets Manager")
            .with_hint(format!(
                "deploy with data_source = \"chain\" and put the URL into the secret defi-{}/ethereum-api-key (docs/chain.md), or \
                 fill a lake on this machine, with `run --from`",
                options.env.name()
            ))),
    }
}

/// Rejects a first day of the data after the day of the features, before anything starts in AWS.
#[cfg(feature = "aws")]
fn reject_reversed(from: Option<Day>, features: Option<(&str, Day)>) -> Result<()> {
    match from.zip(features) {
        Some((from, (name, day))) if from > day => {
            Err(Error::bad_input(format!("--from {from} is after {name} {day}"))
                .with_hint("choose an earlier --from or a later day"))
        }
        _ => Ok(()),
    }
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "builds with AWS support need async")]
async fn run_in_aws(_: Command) -> Result<()> {
    Err(Error::bad_input("this build has no AWS support").with_hint("build with AWS support: make build"))
}

async fn step(mut args: StepArgs) -> Result<()> {
    let Some(name) = args.name.take() else { return crate::run::list_steps(args.json) };
    let input = args.input.take();
    crate::run::step(&args.options()?, name.parse()?, input.as_deref()).await
}

async fn doctor(args: DoctorArgs) -> Result<()> {
    let send_keys = args.send_keys;
    let source = match (args.live, args.recording, args.graph_url.zip(args.transpose_url)) {
        (true, ..) => Some(Source::Live { send_keys }),
        (_, Some(recording), _) => Some(Source::Recording(recording)),
        (_, _, Some((graph, transpose))) => Some(Source::Urls { graph, transpose, send_keys }),
        _ => args::node_url(args.rpc_url.as_deref())?.map(|url| Source::Node { url, logs: None }),
    };
    crate::doctor::run_checks(&crate::doctor::Options { source, all: args.all, json: args.json }, &args.lake.into())
        .await
}

async fn verify(args: VerifyArgs) -> Result<()> {
    let url = args::node_url(args.rpc_url.as_deref())?;
    let accounts = usize::try_from(args.accounts).unwrap_or(usize::MAX);
    let options = crate::verify::Options { url, as_of: args.as_of, accounts, json: args.json };
    crate::verify::verify(&options, &args.lake.into()).await
}

fn completions(shell: Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "defi", &mut text);
    crate::output::write(&text)
}

fn man(folder: &Path) -> Result<()> {
    let write = || {
        std::fs::create_dir_all(folder)?;
        // The names of the pages are not the user's: a link that has one of them is replaced, and not followed.
        let unfinished = tempfile::tempdir_in(folder)?;
        clap_mangen::generate_to(Cli::command(), unfinished.path())?;
        for page in std::fs::read_dir(unfinished.path())? {
            let page = page?;
            std::fs::rename(page.path(), folder.join(page.file_name()))?;
        }
        unfinished.close()
    };
    write().map_err(|cause: std::io::Error| {
        Error::bad_input("can't write the manual pages").with("path", folder.display()).with_source(cause)
    })
}

async fn wallet(args: WalletArgs) -> Result<()> {
    let address = args.address.parse()?;
    let (explain, html) = (args.explain.as_deref(), args.html.as_deref());
    let options = crate::wallet::Options { address, as_of: args.as_of, explain, json: args.json, html };
    crate::wallet::show(&options, &args.lake.into()).await
}

async fn get(args: GetArgs) -> Result<()> {
    let wallets = args.wallets.iter().map(|wallet| wallet.parse()).collect::<Result<_>>()?;
    let input = get_features::Input { wallets, as_of: args.as_of, features: args.features };
    crate::get::get(&input, args.format, &args.lake.into()).await
}

async fn features(args: FeaturesArgs) -> Result<()> {
    if let Some((from, until)) = args.from.zip(args.until).filter(|(from, until)| from > until) {
        return Err(Error::bad_input(format!("--from {from} is after --until {until}"))
            .with_hint("choose an earlier --from or a later --until"));
    }
    let rows = match (args.at_borrows, args.at) {
        (true, _) => RowSelection::AtBorrows(args.from, args.until),
        (_, Some(file)) => RowSelection::At(file),
        _ => RowSelection::Published(args.as_of),
    };
    let format = match args.format {
        FileFormat::Csv(_) => FileFormat::Csv(args.csv.style()),
        format => args.csv.without_csv(format)?,
    };
    let period = |text: Option<String>| text.as_deref().map(crate::features::Period::parse).transpose();
    let (label, as_served) = (period(args.label)?, period(args.as_served)?);
    if label.is_some_and(crate::features::Period::is_zero) {
        return Err(
            Error::bad_input("--label must be longer than 0").with_hint("name days or hours, such as 30d or 12h")
        );
    }
    let FeaturesArgs { wallets, output, croissant, .. } = args;
    let options = crate::features::Options { rows, label, as_served, wallets, format, output, croissant };
    crate::features::export(&options, &args.lake.into()).await
}

#[cfg(feature = "sql")]
async fn query(args: QueryArgs) -> Result<()> {
    use crate::output::RowFormat;
    use crate::query::Sql;

    let format = match args.format {
        RowFormat::File(FileFormat::Csv(_)) => RowFormat::File(FileFormat::Csv(args.csv.style())),
        format => args.csv.without_csv(format)?,
    };
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let sql = match (args.sql, args.file) {
        (_, Some(file)) => Sql::File(file),
        (Some(sql), None) if sql != "-" => Sql::Text(sql),
        (None, None) if is_terminal && args.output.is_none() => {
            return crate::query::prompt(&args.lake.into(), format).await;
        }
        _ => Sql::Stdin,
    };
    crate::query::query(sql, &args.lake.into(), format, args.output.as_deref()).await
}

#[cfg(not(feature = "sql"))]
#[expect(clippy::unused_async, reason = "builds with SQL support need async")]
async fn query(_: QueryArgs) -> Result<()> {
    Err(Error::bad_input("this build has no SQL support").with_hint("build with SQL support: make build"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A writer that tests read.
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_lines_in_text_form_are_escaped() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false);
        tracing::subscriber::with_default(subscriber.fmt_fields(escaped_fields()).finish(), || {
            let _span = tracing::error_span!("unit", unit = "a\u{9b}b").entered();
            tracing::error!(error = %"no\u{1b}[2J\n\u{202e}", text = "\u{7}", "the\rcall failed");
        });
        let log = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains(r"the\rcall failed error=no\u{1b}[2J\n\u{202e} text="), "{log}");
        assert!(log.contains(r#"unit{unit="a\u{9b}b"}"#), "{log}");
        assert!(log.trim_end().chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{log:?}");
    }

    /// Hints add options to commands: each must take them.
    #[test]
    fn commands_in_hints_take_the_options_of_the_call() {
        let root = Cli::command();
        let options = |env: &str, args: &[&str]| {
            let command = ["defi", "doctor", "--env", env].into_iter().chain(args.iter().copied());
            Cli::try_parse_from(command).unwrap().command.options()
        };
        let mut found = 0;
        for command in root.get_subcommands() {
            for call in [options("prod", &["--lake", "x"]), options("prod", &["--lake", "x", "--aws"])] {
                let completed = call.complete(&format!("defi {}", command.get_name()));
                for option in completed.split_whitespace().filter_map(|word| word.strip_prefix("--")) {
                    let name = completed.split_whitespace().nth(1).unwrap();
                    let command = root.find_subcommand(name).unwrap();
                    let takes = command.get_arguments().any(|argument| argument.get_long() == Some(option));
                    assert!(takes, "{completed}");
                    found += 1;
                }
            }
            let takes_env = command.get_arguments().any(|argument| argument.get_long() == Some("env"));
            let completed = options("prod", &[]).complete(&format!("defi {}", command.get_name()));
            assert_eq!(completed.contains("--env prod"), takes_env, "{completed}");
        }
        assert!(found > 20, "{found}");
    }

    #[cfg(feature = "aws")]
    #[tokio::test]
    async fn runs_in_aws_say_where_their_url_of_a_node_is() {
        for command in [&["backfill", "2023-01-01", "2023-01-02"][..], &["start"]] {
            let args =
                ["defi"].iter().chain(command).chain(&["--env", "prod", "--rpc-url", "https://node.example/s3cret"]);
            let error = run_in_aws(Cli::try_parse_from(args).unwrap().command).await.unwrap_err();
            let text = error.to_string();
            assert!(error.kind() == Kind::BadInput && text.contains("Secrets Manager"), "{text}");
            assert!(text.contains("defi-prod/ethereum-api-key") && !text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }
}
