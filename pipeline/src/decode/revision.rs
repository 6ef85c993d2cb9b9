//! Which way of decoding this is.

/// Raised whenever the same file becomes other pixels than before, so that no run joins labels of both: 2 since JPEGs of which no fraction is
/// enough are scaled before their colours are joined.
pub const REVISION: u32 = 2;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use sha2::{Digest as _, Sha256};

    use super::REVISION;
    use crate::decode::{Limits, decode_file};
    use crate::preprocess::{Colour, Fit, Preprocess};

    /// The beginnings of the SHA-256 of the pixels that each file of `revision/` becomes under each of [`contracts`], in this revision.
    const PIXELS: &str = "\
revision 2
grey.jpg cf23a622 4b4ab2f4 960e5622 dfeb70a8
halved-colours.jpg d8205b3d d7de0d7a cf2d3d88 a139f3e4
lossy.webp 2c61333b e24009a2 f44aec3c b2280270
palette.gif 2e21f5af 58195c24 7491e83b 61ab92d9
progressive.jpg d8205b3d d7de0d7a db326c65 a139f3e4
transparent.png 77616a2f 2e640fa0 da77e806 0f830d91
turned.jpg c5d7b1c2 6268cd65 7142a718 98b5b5cb
whole-colours.jpg b50bf36f b3d93322 22f2627a 9e3e0356
";

    /// A photo on a plain ground, a small fraction of a JPEG, planes of a JPEG, everything.
    fn contracts() -> [Preprocess; 4] {
        [
            Preprocess::fashion_mnist(28, 28, Colour::Grey),
            Preprocess::stretch(24, 24, Colour::Rgb),
            Preprocess {
                fit: Fit::Pad,
                ..Preprocess::stretch(96, 96, Colour::Rgb)
            },
            Preprocess {
                fit: Fit::Crop,
                reduced_jpeg: false,
                ..Preprocess::stretch(64, 48, Colour::Grey)
            },
        ]
    }

    #[test]
    fn a_file_becomes_other_pixels_only_in_another_revision() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/decode/revision");
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let mut found = format!("revision {REVISION}\n");
        for file in files {
            found += file.file_name().unwrap().to_str().unwrap();
            for contract in contracts() {
                let mut pixels = vec![0; contract.bytes_per_image()];
                decode_file(&file, &contract, &Limits::default(), &mut pixels).unwrap();
                let digest = Sha256::digest(&pixels);
                found += &format!(
                    " {:02x}{:02x}{:02x}{:02x}",
                    digest[0], digest[1], digest[2], digest[3]
                );
            }
            found += "\n";
        }
        assert_eq!(
            found, PIXELS,
            "files become other pixels than they did: raise REVISION and put what was found into PIXELS"
        );
    }
}
