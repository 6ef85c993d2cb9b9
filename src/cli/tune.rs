//! `catalog tune`: a search for better options.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::dataset::{self, LoadSettings, Parts, Purpose, Source};
use crate::runtime::{self, Need};
use crate::training::options::TrainOptions;
use crate::tune::points::Search;
use crate::tune::records::{BEST, TABLE};
use crate::tune::run::{Searched, search};
use crate::tune::settings::Settings;
use crate::tune::space::{NetworkKind, Space};

use super::GlobalArgs;
use super::dataset::{ShapeArgs, load_settings, warn_of_skipped, with_validation};
use super::signals::Stop;
use progress::Progress;

mod progress;
mod report;

/// The budget where neither trials nor time are given.
const DEFAULT_BUDGET: Duration = Duration::from_secs(3600);

/// Search for the options that train the best network
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  catalog tune fashion-mnist --network seed --time-budget 60m --out search\n  \
    catalog tune photos --network all --trials 40 --out search\n  \
    catalog train photos --config search/best.json --out models/shop\n\n\
    The first trial is the network with its defaults. The test part of the data is never read. The same command goes on with\n\
    a search that was stopped. The folder gets report.html, trials.csv, best.json and\n\
    plots/; docs/tuning.md explains the search."
)]
pub struct TuneArgs {
    /// `fashion-mnist`, a folder of class folders or of IDX files, a 785-column CSV, or a CSV with the columns path and label
    #[arg(value_name = "DATA")]
    data: String,
    /// Folder for the results; with those of the same search in it, the search goes on
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    shape: ShapeArgs,
    #[command(flatten)]
    search: SearchArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Search")]
struct SearchArgs {
    /// Kind of network to search; may be repeated
    #[arg(long, value_name = "NAME", default_value = "resnet")]
    network: Vec<NetworkArg>,
    /// Start at most so many configurations [default: as many as the time allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    trials: Option<u32>,
    /// End within this time, with the best trained at full length, as in 90s, 30m or 1h30m [default: 60m without --trials]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    time_budget: Option<Duration>,
    /// Stop any one training after this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    trial_limit: Option<Duration>,
    /// How new configurations are chosen
    #[arg(long, value_name = "NAME", value_enum, default_value = "quasi")]
    search: SearchArg,
    /// File with ranges that differ from the usual ones
    #[arg(long, value_name = "FILE.json")]
    space: Option<PathBuf>,
    /// Share of the training images held out for validation, where the data has no validation part [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    validation_fraction: Option<f64>,
    /// Seed of the search and of every training [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Threads of ONNX Runtime; 0 for one per core [default: 0]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NetworkArg {
    /// The convolution–pooling–dense network of the Fashion-MNIST study
    Seed,
    /// A small residual network with batch normalisation
    Resnet,
    /// Stages of convolutions with max pooling between them
    Vgg,
    /// All of these
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SearchArg {
    /// Spread evenly over the space
    Quasi,
    /// At random
    Random,
}

pub(super) fn run(args: &TuneArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let settings = args.search.settings()?;
    let source = Source::detect(&args.data)?;
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let runtime = runtime::load(&global.runtime_settings()?, Need::Training)?;
    let loading = LoadSettings {
        parts: Parts::Learning,
        ..load_settings(&args.shape, Purpose::Training, global)?
    };
    let base = &settings.base;
    let dataset = dataset::load(&source, &loading)?;
    warn_of_skipped(&dataset);
    let dataset = with_validation(dataset, &source, base.validation_fraction, base.seed)?;

    let stop = Stop::listen()?;
    let mut progress = Progress::new(global.quiet);
    let searched = search(
        &dataset,
        &settings,
        &runtime.environment,
        &args.out,
        stop.flag(),
        &mut |news| progress.show(news),
    )?;
    drop(progress);
    report::write(&args.out, &dataset, &settings, &searched, &runtime)
        .context("the search is saved, but not its report")?;
    conclude(&searched, &args.out)?;
    match searched.stopped {
        true => Ok(stop.exit_code()),
        false => Ok(ExitCode::SUCCESS),
    }
}

/// Says what was found and what to do with it.
fn conclude(searched: &Searched, out: &Path) -> Result<()> {
    if searched.stopped {
        tracing::info!("stopped; the same command goes on with the search");
    }
    let Some(best) = searched.best.and_then(|best| searched.records.get(best)) else {
        if searched.stopped {
            return Ok(());
        }
        bail!(
            "no configuration could be trained; {} says why",
            out.join(TABLE).display()
        );
    };
    let first = searched
        .records
        .iter()
        .find(|record| record.trial == 0 && record.rung == best.rung);
    let compared = first
        .filter(|first| first.trial != best.trial)
        .and_then(|first| first.validation_accuracy)
        .map_or(String::new(), |accuracy| {
            format!(", the defaults {accuracy:.4} in as long a training")
        });
    tracing::info!(
        "best: trial {} of {}, validation accuracy {:.4} after {}{compared}",
        best.trial,
        searched
            .records
            .iter()
            .map(|record| record.trial + 1)
            .max()
            .unwrap_or_default(),
        best.validation_accuracy.unwrap_or_default(),
        progress::epochs(best.epochs),
    );
    if !searched.is_full {
        tracing::warn!(
            "the best was not trained for all its {} epochs: there was no time for that; the longer the training, the surer the choice",
            best.options.epochs
        );
    }
    tracing::info!(
        "train it with: catalog train … --config {}",
        out.join(BEST).display()
    );
    Ok(())
}

impl SearchArgs {
    fn settings(&self) -> Result<Settings> {
        let default = TrainOptions::default();
        let base = TrainOptions {
            seed: self.seed.unwrap_or(default.seed),
            threads: self.threads.unwrap_or(default.threads),
            validation_fraction: self
                .validation_fraction
                .unwrap_or(default.validation_fraction),
            ..default
        };
        let time_budget = match (self.trials, self.time_budget) {
            (None, None) => Some(DEFAULT_BUDGET),
            (_, given) => given,
        };
        Ok(Settings {
            networks: self.networks(),
            search: match self.search {
                SearchArg::Quasi => Search::Quasi,
                SearchArg::Random => Search::Random,
            },
            space: self.space()?,
            base,
            trials: self.trials.map(|trials| trials as usize),
            time_budget,
            trial_limit: self.trial_limit,
        })
    }

    /// Each kind once, in their own order.
    fn networks(&self) -> Vec<NetworkKind> {
        let is_asked = |kind: &NetworkKind| {
            self.network.iter().any(|&asked| match asked {
                NetworkArg::Seed => *kind == NetworkKind::Seed,
                NetworkArg::Resnet => *kind == NetworkKind::Resnet,
                NetworkArg::Vgg => *kind == NetworkKind::Vgg,
                NetworkArg::All => true,
            })
        };
        NetworkKind::ALL.into_iter().filter(is_asked).collect()
    }

    fn space(&self) -> Result<Space> {
        let Some(path) = &self.space else {
            return Ok(Space::default());
        };
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let space: Space = serde_json::from_str(&text)
            .with_context(|| format!("{}: not the ranges of a search", path.display()))?;
        space
            .validate()
            .with_context(|| path.display().to_string())?;
        Ok(space)
    }
}

/// `90s`, `30m`, `1h30m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time, expected something like 90s, 30m or 1h30m");
    let mut seconds: u64 = 0;
    let mut number = String::new();
    for letter in text.trim().chars() {
        let unit = match letter {
            '0'..='9' => {
                number.push(letter);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        number.clear();
        seconds = count
            .checked_mul(unit)
            .and_then(|part| seconds.checked_add(part))
            .ok_or_else(wrong)?;
    }
    match number.is_empty() && (1..=31_536_000).contains(&seconds) {
        true => Ok(Duration::from_secs(seconds)),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_network_come_once_and_in_their_order() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            search: SearchArgs,
        }
        let networks = |line: &str| {
            let words = ["tune"].into_iter().chain(line.split_whitespace());
            Line::try_parse_from(words).unwrap().search.networks()
        };
        use NetworkKind::{Resnet, Seed};
        assert_eq!(networks(""), [Resnet]);
        assert_eq!(
            networks("--network resnet --network seed --network resnet"),
            [Seed, Resnet]
        );
        assert_eq!(networks("--network seed --network all"), NetworkKind::ALL);
    }

    #[test]
    fn times_have_units() {
        let seconds = |text| parse_duration(text).map(|time| time.as_secs());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("60m"), Ok(3600));
        assert_eq!(seconds("1h30m"), Ok(5400));
        for wrong in [
            "",
            "60",
            "m",
            "1d",
            "-5m",
            "0s",
            "1h30",
            "99999999999999999999h",
        ] {
            assert!(
                seconds(wrong).is_err_and(|error| error.contains("is no time")),
                "{wrong}"
            );
        }
    }
}
