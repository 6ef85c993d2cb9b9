//! `catalog audit`: what may be wrong with a labelled data set.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use clap::{Args, value_parser};
use pipeline::atomic_file::StagedFile;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use super::dataset::{ShapeArgs, load_settings, warn_of_skipped};
use super::pretrained::{BackboneName, FEATURES_FOLDER, for_backbone};
use super::signals::Stop;
use super::{GlobalArgs, NOT_ALL_OK, print};
use crate::audit::{self, Finding};
use crate::backbone;
use crate::dataset::split::folds;
use crate::dataset::{self, Dataset, Purpose, Source};
use crate::lowering::WeightStorage;
use crate::report::audit::AuditReport;
use crate::report::environment::moment;
use crate::runtime::{self, Need};
use crate::training::augment::AugmentSettings;
use crate::training::preset::on_backbone;
use crate::training::progress::Renderer;
use crate::training::transfer::{BackboneModel, Transfer, TransferOptions, out_of_fold};

/// Wrong labels that are printed.
const PRINTED: usize = 10;

/// Find labels that are probably wrong, copies and odd pictures in a data set of photos
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  catalog audit photos --out audit.csv --html audit.html
  catalog audit labels.csv --out - --folds 10 | head -50

Every image is judged by a model that did not learn from it nor from copies of it: the layer behind a
pretrained network, trained once for each fold. The CSV has a row for every image, the likeliest wrong
labels first; docs/your-catalogue.md explains its columns.

Exit codes: 0 every file was read, 1 there is no result, 2 wrong usage, 3 some files could not be read,
130, 143 or 129 stopped by Ctrl-C, SIGTERM or SIGHUP")]
pub(super) struct AuditArgs {
    /// A folder of class folders, or a CSV with the columns path and label
    #[arg(value_name = "DATA")]
    data: String,
    /// Write a row for every image as CSV, or - for standard output
    #[arg(short, long, value_name = "FILE.csv")]
    out: Option<PathBuf>,
    /// Write a gallery for people
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// How many pictures each gallery has
    #[arg(short = 'n', long, value_name = "N", default_value_t = 60, value_parser = value_parser!(u16).range(1..=1000))]
    top: u16,
    /// The pretrained network that looks at the pictures
    #[arg(long, value_name = "NAME", default_value = "efficientnet-lite0")]
    backbone: BackboneName,
    /// Parts of the data, each judged by what learnt from the others
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u8).range(2..=20))]
    folds: u8,
    /// Seed of the parts and of every training
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Threads of ONNX Runtime; 0 for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    shape: ShapeArgs,
}

/// Runs `catalog audit`.
pub(super) fn run(args: &AuditArgs, global: &GlobalArgs) -> Result<ExitCode> {
    let source = Source::detect(&args.data)?;
    ensure!(
        source.is_image_files(),
        "{}: an audit looks at photos in files; give a folder of class folders, or a CSV with the columns path and label",
        args.data
    );
    let goes_to_stdout = args
        .out
        .as_deref()
        .is_some_and(|out| out.as_os_str() == "-");
    let create = |path: &Option<PathBuf>| path.as_deref().map(StagedFile::create).transpose();
    let csv = match goes_to_stdout {
        true => None,
        false => create(&args.out)?,
    };
    let html = create(&args.html)?;
    let runtime = runtime::load(&global.runtime_settings()?, Need::Training)?;
    let variant = args.backbone.variant();
    let cache = global.cache_folder()?;
    let pretrained = backbone::load(variant, &cache, global.offline)?;
    let mut settings = load_settings(&args.shape, Purpose::Training, global)?;
    settings.pixels = for_backbone(settings.pixels, variant)?;
    let dataset = dataset::load(&source, &settings)?.as_one_part()?;
    warn_of_skipped(&dataset);

    let stop = Stop::listen()?;
    let mut renderer = match global.quiet {
        true => Renderer::quiet(),
        false => Renderer::for_stderr(),
    };
    let mut options = on_backbone(variant);
    options.seed = args.seed;
    options.threads = args.threads;
    // Nothing is exported, so nothing need be rounded.
    options.weight_storage = WeightStorage::Float32;
    // Features of the image as it is: variants of it say the same of its label and cost as much again.
    options.augment = AugmentSettings::default();
    options.transfer = Some(TransferOptions {
        variants: 0,
        ..TransferOptions::default()
    });
    let groups = dataset.duplicates()?;
    let folds = folds(
        &dataset.train.labels,
        &groups,
        usize::from(args.folds),
        args.seed,
    );
    let outcome = out_of_fold(
        &dataset,
        &folds,
        &options,
        Transfer {
            backbone: BackboneModel::Pretrained(&pretrained),
            features: &cache.join(FEATURES_FOLDER),
        },
        &runtime.environment,
        stop.flag(),
        &mut |event| renderer.render(event),
    );
    if stop.is_asked() {
        tracing::warn!("stopped: there is no result");
        return Ok(stop.exit_code());
    }
    let probabilities = outcome?;
    drop(renderer);
    let findings = audit::findings(
        &dataset.train,
        &dataset.preprocess,
        &probabilities,
        &groups,
        &sizes(&source, &dataset),
    )?;
    let audited = Audited {
        dataset: &dataset,
        findings: &findings,
    };

    let mut whole = Vec::new();
    if let Some(mut file) = csv {
        audit::write(&dataset, &findings, &mut file).context("the findings cannot be written")?;
        whole.push(file.make_durable()?);
    }
    if let Some(mut file) = html {
        let method = vec![
            ("network", variant.to_string()),
            ("parts", args.folds.to_string()),
            ("seed", args.seed.to_string()),
            ("ONNX Runtime", runtime.version.clone()),
        ];
        let html = audited.html(method, usize::from(args.top));
        file.write_all(html.as_bytes())
            .context("the gallery cannot be written")?;
        whole.push(file.make_durable()?);
    }
    whole.into_iter().try_for_each(|file| file.publish())?;
    if goes_to_stdout {
        let mut rows = Vec::new();
        audit::write(&dataset, &findings, &mut rows)?;
        print(&String::from_utf8_lossy(&rows))?;
    } else {
        print(&audited.text())?;
    }
    Ok(match dataset.skipped.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NOT_ALL_OK),
    })
}

/// Width and height of the file of each image, where its header can be read.
fn sizes(source: &Source, dataset: &Dataset) -> Vec<Option<(u32, u32)>> {
    dataset
        .train
        .sources
        .par_iter()
        .map(|name| image::image_dimensions(source.file(name)?).ok())
        .collect()
}

/// What an audit came to.
struct Audited<'a> {
    dataset: &'a Dataset,
    findings: &'a [Finding],
}

impl Audited<'_> {
    /// Share of the images whose label is the most probable class.
    fn agreement(&self) -> f64 {
        let agreed = self
            .findings
            .iter()
            .filter(|finding| finding.opinion.agrees());
        agreed.count() as f64 / self.findings.len().max(1) as f64
    }

    fn html(&self, method: Vec<(&'static str, String)>, most: usize) -> String {
        AuditReport {
            dataset: self.dataset,
            findings: self.findings,
            agreement: self.agreement(),
            method,
            most,
            footer: format!(
                "Written by catalog {} on {}.",
                env!("CARGO_PKG_VERSION"),
                moment(SystemTime::now())
            ),
        }
        .html()
    }

    fn text(&self) -> String {
        let count = |is_one: &dyn Fn(&Finding) -> bool| {
            self.findings
                .iter()
                .filter(|finding| is_one(finding))
                .count()
        };
        let wrong: Vec<&Finding> = self
            .findings
            .iter()
            .filter(|finding| finding.opinion.other.is_some())
            .collect();
        let mut text = format!(
            "{} images in {} classes; models that did not learn from an image agree with {:.1} % of the labels\n\n\
             {:>6} labels are probably wrong\n\
             {:>6} images are copies with different labels\n\
             {:>6} images are copies, these included\n\
             {:>6} pictures are odd\n\
             {:>6} files cannot be read\n",
            self.findings.len(),
            self.dataset.classes.len(),
            self.agreement() * 100.0,
            wrong.len(),
            count(&|finding| finding.contradicts),
            count(&|finding| finding.copies.is_some()),
            count(&|finding| !finding.oddities.is_empty()),
            self.dataset.skipped.len(),
        );
        if !wrong.is_empty() {
            text += "\nthe likeliest wrong labels\n";
        }
        let class = |index: usize| self.dataset.classes.get(index).map_or("", String::as_str);
        for finding in wrong.iter().take(PRINTED) {
            let split = &self.dataset.train;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "  {}: {} {:.2}, rather {} {:.2}",
                printable(&split.sources[finding.place]),
                printable(class(split.labels[finding.place] as usize)),
                finding.opinion.label_probability,
                printable(class(finding.opinion.rival.0)),
                finding.opinion.rival.1
            );
        }
        text
    }
}

/// A name that does not write on the terminal.
fn printable(name: &str) -> String {
    name.chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}
