//! The command line: one file a command, one declaration a flag.

#[cfg(feature = "annotate")]
mod annotate;
mod audit;
mod cache;
mod config;
mod describe;
mod evaluate;
mod export;
mod failure;
mod generate;
mod inspect;
mod launch;
mod merge;
mod model;
mod output;
mod parent;
mod plugin_check;
#[cfg(feature = "native")]
mod plugin_host;
mod plugin_new;
mod plugins;
mod processes;
mod report;
mod run;
mod score;
#[cfg(feature = "serve")]
mod serve;
mod session;
mod sft;
mod summary_table;
#[cfg(feature = "sweep")]
mod sweep;
mod terminal;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use isr_config::{LoadedConfig, Loader, Validate};
use session::Session;
pub(crate) use terminal::printable;

/// Aligns video LMMs by iterative self-retrospective preference optimisation (ISR-DPO).
#[derive(Parser)]
#[command(name = "isr", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    verbosity: Verbosity,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed
  2    the command line, the config or what it names cannot be used; nothing was done
  130  interrupted; the same command continues

Environment:
  ISR__SECTION__KEY  sets `section.key` of a config, above its files and below -s
  ISR_FFMPEG         the ffmpeg program
  ISR_PLUGIN_PATH    folders in which plugins are looked for by name, as in PATH
  RUST_LOG           what is logged to stderr, as `isr_run=debug`; above -v and -q";

/// How much is said on stderr.
#[derive(Args)]
struct Verbosity {
    /// Log what is done; twice for details
    #[arg(short, long, action = clap::ArgAction::Count, global = true, display_order = 900)]
    verbose: u8,
    /// Show no progress
    #[arg(short, long, global = true, conflicts_with = "verbose", display_order = 901)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunArgs),
    Dpo(run::DpoArgs),
    Sft(sft::SftArgs),
    Evaluate(evaluate::EvaluateArgs),
    #[cfg(feature = "sweep")]
    Sweep(sweep::SweepArgs),
    Generate(generate::GenerateArgs),
    Score(score::ScoreArgs),
    #[cfg(feature = "serve")]
    Serve(serve::ServeArgs),
    Inspect(inspect::InspectArgs),
    Merge(merge::MergeArgs),
    Report(report::ReportArgs),
    Audit(audit::AuditArgs),
    #[cfg(feature = "annotate")]
    Annotate(annotate::AnnotateArgs),
    Export(export::ExportArgs),
    Plugins(plugins::PluginsArgs),
    Config(config::ConfigCommands),
    World(world::WorldArgs),
    Cache(cache::CacheArgs),
}

/// A config file, and what is changed of it.
#[derive(Args)]
struct ConfigArgs {
    /// The config file
    config: PathBuf,
    /// Change a setting of the config: `-s loop.iterations=3`; may be given again
    #[arg(short, long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArgs {
    fn loader(&self) -> Loader {
        Loader::new().file(&self.config).environment().overrides(&self.set)
    }

    fn load<T: Validate>(&self) -> Result<LoadedConfig<T>> {
        Ok(self.loader().load()?)
    }
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    session::survive_file_limits();
    let session = match Session::start(&cli.verbosity) {
        Ok(session) => session,
        Err(error) => return failure::report(&error).into(),
    };
    let outcome = cli.command.execute(&session);
    session.progress.clear();
    session.end(outcome.map_or_else(|error| failure::report(&error), |()| 0))
}

impl Command {
    fn execute(&self, session: &Session) -> Result<()> {
        match self {
            Self::Run(args) => args.execute(session),
            Self::Dpo(args) => args.execute(session),
            Self::Sft(args) => args.execute(session),
            Self::Evaluate(args) => args.execute(session),
            #[cfg(feature = "sweep")]
            Self::Sweep(args) => args.execute(session),
            Self::Generate(args) => args.execute(session),
            Self::Score(args) => args.execute(session),
            #[cfg(feature = "serve")]
            Self::Serve(args) => args.execute(session),
            Self::Inspect(args) => args.execute(),
            Self::Merge(args) => args.execute(),
            Self::Report(args) => args.execute(session),
            Self::Audit(args) => args.execute(session),
            #[cfg(feature = "annotate")]
            Self::Annotate(args) => args.execute(session),
            Self::Export(args) => args.execute(session),
            Self::Plugins(args) => args.execute(session),
            Self::Config(args) => args.execute(session),
            Self::World(args) => args.execute(session),
            Self::Cache(args) => args.execute(),
        }
    }
}
