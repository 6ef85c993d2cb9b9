//! Joins the labels of shards into what one run over all files would have written, and proves that it is that.
//!
//! Rows are taken over as they are, byte by byte, in path order; only their paths are read.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::key::Key;
use super::labels_facts::LabelsFacts;
use super::settings::Format;
use super::shard::Shard;
use crate::atomic_file::StagedFile;

/// The labels of one shard.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where they are.
    pub path: PathBuf,
    /// What the report of their run says of them.
    pub facts: LabelsFacts,
}

/// Writes the labels of all `parts` to `output`, and gives what they are then.
///
/// # Errors
/// When a part is missing, given twice or no shard at all; when the parts come from different files, models or settings; when a
/// part is not what its report says.
pub fn merge(parts: &[Part], output: &mut StagedFile) -> Result<LabelsFacts> {
    let facts = check(parts)?;
    let mut readers = parts
        .iter()
        .map(PartReader::open)
        .collect::<Result<Vec<_>>>()?;
    let mut digest = blake3::Hasher::new();
    let mut rows = 0;
    let mut write = |line: &[u8]| {
        digest.update(line);
        output
            .write_all(line)
            .context("the labels could not be written")
    };
    if let Some(first) = readers.first() {
        for other in &readers {
            ensure!(
                other.header == first.header,
                "{} and {} have different columns",
                first.part.path.display(),
                other.part.path.display()
            );
        }
        write(&first.header)?;
    }
    // Shards are few, so looking through all of them for the least key is quick enough.
    while let Some(least) = readers
        .iter_mut()
        .filter(|reader| reader.next.is_some())
        .min_by(|a, b| a.next.cmp(&b.next))
    {
        write(&least.line)?;
        rows += 1;
        least.advance()?;
    }
    for reader in &readers {
        reader.check_whole()?;
    }
    ensure!(
        rows == facts.tree.files,
        "the parts have {rows} rows for {} files",
        facts.tree.files
    );
    Ok(LabelsFacts {
        rows,
        digest: digest.finalize().to_hex().to_string(),
        shard: None,
        ..facts
    })
}

/// That the parts belong together and none is missing; gives what they have in common.
fn check(parts: &[Part]) -> Result<LabelsFacts> {
    let first = parts.first().context("there is nothing to join")?;
    let count = shard(first)?.count;
    let mut owners: Vec<Option<&Part>> = vec![None; count as usize];
    for part in parts {
        let shard = shard(part)?;
        let (name, first_name) = (part.path.display(), first.path.display());
        ensure!(
            shard.count == count,
            "{name} is shard {shard}, {first_name} is one of {count}"
        );
        if let Some(other) = owners[shard.number as usize - 1].replace(part) {
            bail!("{name} and {} are both shard {shard}", other.path.display());
        }
        let (facts, common) = (&part.facts, &first.facts);
        ensure!(
            facts.format == common.format,
            "{name} and {first_name} are written in different formats"
        );
        for (what, value) in &common.made_with {
            let other = facts.made_with.get(what);
            ensure!(
                other == Some(value),
                "{name} and {first_name} do not belong together: {what} was {} there, {value} here",
                other.map_or("nothing", String::as_str)
            );
        }
        ensure!(
            facts.made_with.len() == common.made_with.len(),
            "{name} and {first_name} were made with different settings"
        );
        ensure!(
            facts.tree == common.tree,
            "{name} and {first_name} are not shards of the same files: the folder changed between the runs"
        );
    }
    if let Some(missing) = owners.iter().position(Option::is_none) {
        bail!("shard {}/{count} is missing", missing + 1);
    }
    Ok(first.facts.clone())
}

fn shard(part: &Part) -> Result<Shard> {
    let shard = part.facts.shard.with_context(|| {
        format!(
            "{} has the labels of all files already; shards are made with --shard",
            part.path.display()
        )
    })?;
    ensure!(
        (1..=shard.count).contains(&shard.number) && shard.count <= 1 << 16,
        "{} cannot be shard {shard}",
        part.path.display()
    );
    Ok(shard)
}

/// Reads the rows of one part, and checks them on the way.
struct PartReader<'a> {
    part: &'a Part,
    shard: Shard,
    input: BufReader<File>,
    /// With its end of line; empty where the format has none.
    header: Vec<u8>,
    /// The next row, with its end of line.
    line: Vec<u8>,
    /// Its key; none at the end.
    next: Option<Key>,
    rows: u64,
    digest: Box<blake3::Hasher>,
}

impl<'a> PartReader<'a> {
    fn open(part: &'a Part) -> Result<Self> {
        let file = File::open(&part.path)
            .with_context(|| format!("{} cannot be opened", part.path.display()))?;
        let mut reader = Self {
            part,
            shard: shard(part)?,
            input: BufReader::new(file),
            header: Vec::new(),
            line: Vec::new(),
            next: None,
            rows: 0,
            digest: Box::default(),
        };
        if part.facts.format != Format::Jsonl {
            reader.read_line()?;
            reader.header = std::mem::take(&mut reader.line);
        }
        reader.advance()?;
        Ok(reader)
    }

    fn read_line(&mut self) -> Result<()> {
        self.line.clear();
        self.input
            .read_until(b'\n', &mut self.line)
            .with_context(|| format!("{} cannot be read", self.part.path.display()))?;
        self.digest.update(&self.line);
        Ok(())
    }

    fn advance(&mut self) -> Result<()> {
        self.read_line()?;
        let before = self.next.take();
        if self.line.is_empty() {
            return Ok(());
        }
        self.rows += 1;
        let name = self.part.path.display();
        let key = key(&self.line, self.part.facts.format)
            .with_context(|| format!("row {} of {name} has no path", self.rows))?;
        ensure!(
            self.shard.has(&key) && before.is_none_or(|before| before < key),
            "row {} of {name} does not belong there",
            self.rows
        );
        self.next = Some(key);
        Ok(())
    }

    /// That the file is what the report says. Known only at its end.
    fn check_whole(&self) -> Result<()> {
        let digest = self.digest.finalize().to_hex();
        ensure!(
            self.rows == self.part.facts.rows && digest.as_str() == self.part.facts.digest,
            "{} was changed or cut after it was written: it is not what its report says; copy both again",
            self.part.path.display()
        );
        Ok(())
    }
}

/// The key of a row, from the text of its path.
fn key(line: &[u8], format: Format) -> Option<Key> {
    #[derive(Deserialize)]
    struct PathOnly {
        path: String,
    }
    let path = match format {
        Format::Jsonl => serde_json::from_slice::<PathOnly>(line).ok()?.path,
        Format::Csv | Format::Excel => {
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .from_reader(line);
            reader.records().next()?.ok()?.get(0)?.to_owned()
        }
    };
    Some(Key::of_cell(&path))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::classify::path_text::path_text;
    use crate::classify::slabs::Tree;

    /// Parts of a CSV of `names`, and the whole.
    fn parts(folder: &Path, names: &[&str], count: u32) -> (Vec<Part>, String) {
        let mut names = names.to_vec();
        names.sort_by_cached_key(|name| Key::of(Path::new(name)));
        let text = |names: &[&str]| {
            let rows: String = names
                .iter()
                .map(|name| {
                    format!(
                        "\"{}\",x
",
                        path_text(Path::new(name))
                    )
                })
                .collect();
            format!("path,label\n{rows}")
        };
        let parts = (1..=count).map(|number| {
            let shard = Shard { number, count };
            let mine: Vec<&str> = names
                .iter()
                .copied()
                .filter(|name| shard.has(&Key::of(Path::new(name))))
                .collect();
            let path = folder.join(format!("{number}.csv"));
            std::fs::write(&path, text(&mine)).unwrap();
            Part {
                path,
                facts: LabelsFacts {
                    format: Format::Csv,
                    rows: mine.len() as u64,
                    digest: blake3::hash(text(&mine).as_bytes()).to_hex().to_string(),
                    shard: Some(shard),
                    tree: Tree {
                        files: names.len() as u64,
                        digest: "tree".to_owned(),
                    },
                    made_with: [("the model".to_owned(), "a".to_owned())].into(),
                },
            }
        });
        (parts.collect(), text(&names))
    }

    fn merged(folder: &Path, parts: &[Part]) -> Result<String> {
        let path = folder.join("whole.csv");
        let mut staged = StagedFile::create(&path)?;
        let facts = merge(parts, &mut staged)?;
        staged.make_durable()?.publish()?;
        let text = std::fs::read_to_string(path)?;
        assert_eq!(
            facts.digest,
            blake3::hash(text.as_bytes()).to_hex().as_str()
        );
        Ok(text)
    }

    #[test]
    fn parts_become_the_whole_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a/1", "a-b/2", "a.jpg", "b, c", "é", "z/9", "%0A", "q"];
        for count in [1, 3, 7] {
            let (mut parts, whole) = parts(folder.path(), &names, count);
            parts.reverse();
            assert_eq!(merged(folder.path(), &parts).unwrap(), whole);
        }
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, _) = parts(folder.path(), &["a", "b", "c", "d", "e", "f"], 3);
        let error = |change: &dyn Fn(&mut Vec<Part>)| {
            let mut parts = whole.clone();
            change(&mut parts);
            format!("{:#}", merged(folder.path(), &parts).unwrap_err())
        };
        assert!(error(&|parts| parts.truncate(2)).contains("shard 3/3 is missing"));
        assert!(error(&|parts| parts[1] = parts[0].clone()).contains("are both shard 1/3"));
        assert!(error(&|parts| parts[1].facts.shard = None).contains("all files already"));
        assert!(error(&|parts| parts.clear()).contains("nothing to join"));
        assert!(
            error(&|parts| parts[2].facts.tree.digest.push('x')).contains("not shards of the same")
        );
        assert!(
            error(&|parts| {
                parts[2]
                    .facts
                    .made_with
                    .insert("the model".into(), "b".into());
            })
            .contains("the model was b there, a here")
        );
        assert!(error(&|parts| parts[0].facts.rows += 1).contains("copy both again"));
        std::fs::write(folder.path().join("2.csv"), "path,label\n./zzz,x\n").unwrap();
        let error = format!("{:#}", merged(folder.path(), &whole).unwrap_err());
        assert!(
            error.contains("does not belong there") || error.contains("copy both again"),
            "{error}"
        );
    }
}
