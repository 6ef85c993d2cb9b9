//! A share of the files, so that several machines can work on one tree without talking to each other.
//!
//! Which share a file belongs to depends on nothing but its path as the output shows it, and never changes between versions.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::key::Key;

/// Share `number` of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// From 1 to `count`.
    pub number: u32,
    /// How many shares there are.
    pub count: u32,
}

impl Shard {
    /// Whether the file at this place belongs to the share.
    pub(crate) fn has(self, key: &Key) -> bool {
        let hash = blake3::hash(key.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) % u64::from(self.count)
            == u64::from(self.number - 1)
    }
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    /// Reads `2/7`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let numbers = text.split_once('/').and_then(|(number, count)| {
            Some(Self {
                number: number.parse().ok()?,
                count: count.parse().ok()?,
            })
        });
        let shard = numbers.context("expected NUMBER/COUNT, as in 2/7")?;
        ensure!(
            (1..=shard.count).contains(&shard.number),
            "shards are numbered from 1 to their count"
        );
        Ok(shard)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_belongs_to_one_share_and_shares_are_alike() {
        let mut sizes = [0; 7];
        for number in 0..7000 {
            let key = Key::of(Path::new(&format!("shop/{number}.jpg")));
            let mut owners = (1..=7).filter(|&number| Shard { number, count: 7 }.has(&key));
            sizes[owners.next().unwrap() as usize - 1] += 1;
            assert_eq!(owners.next(), None);
        }
        assert!(
            sizes.iter().all(|size| (900..1100).contains(size)),
            "{sizes:?}"
        );
        // Files must not change their share with a new version of the program.
        let shard = Shard {
            number: 1,
            count: 2,
        };
        let mine: Vec<usize> = (0..8)
            .filter(|number| shard.has(&Key::of(Path::new(&format!("{number}.jpg")))))
            .collect();
        assert_eq!(mine, [1, 2, 3, 4]);
    }

    #[test]
    fn shares_are_written_as_fractions() {
        assert_eq!("2/7".parse::<Shard>().unwrap().to_string(), "2/7");
        for wrong in ["", "1", "0/3", "4/3", "1/0", "-1/2", "a/b"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
