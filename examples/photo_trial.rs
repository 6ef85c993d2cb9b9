use anyhow::Result;
use catalog::dataset::{self, LoadSettings, Parts, Pixels, Purpose, Source};
use catalog::default_model::default_model;
use catalog::runtime::{self, Need, RuntimeSettings};
use pipeline::decode::{Limits, decode_bytes};
use pipeline::model::{Classifier, Device, SessionSettings};
use pipeline::preprocess::{Colour, Filter, Fit, Ground, PhotoSteps, Preprocess};
use rayon::prelude::*;
use std::io::Cursor;
use std::path::PathBuf;

fn argmax(row: ndarray::ArrayView1<'_, f32>) -> usize {
    (0..row.len())
        .max_by(|&a, &b| row[a].total_cmp(&row[b]))
        .unwrap()
}
/// share of ring pixels near its median, median luma
fn ring(bytes: &[u8]) -> (f64, u8) {
    let image = image::load_from_memory(bytes).unwrap().into_rgb8();
    let (w, h) = image.dimensions();
    let mut px = vec![];
    for x in 0..w {
        px.push(image.get_pixel(x, 0).0);
        px.push(image.get_pixel(x, h - 1).0);
    }
    for y in 0..h {
        px.push(image.get_pixel(0, y).0);
        px.push(image.get_pixel(w - 1, y).0);
    }
    let med: Vec<u8> = (0..3)
        .map(|c| {
            let mut v: Vec<u8> = px.iter().map(|p| p[c]).collect();
            v.sort();
            v[v.len() / 2]
        })
        .collect();
    let near = px
        .iter()
        .filter(|p| {
            (0..3)
                .map(|c| (i64::from(p[c]) - i64::from(med[c])).pow(2))
                .sum::<i64>()
                <= 488
        })
        .count();
    (
        near as f64 / px.len() as f64,
        ((u32::from(med[0]) * 299 + u32::from(med[1]) * 587 + u32::from(med[2]) * 114) / 1000)
            as u8,
    )
}
fn main() -> Result<()> {
    let settings = RuntimeSettings::from_environment()?;
    let rt = runtime::load(&settings, Need::Inference)?;
    let model = match std::env::args().nth(1) {
        Some(p) => pipeline::model::ModelFile::read(&PathBuf::from(p))?,
        None => default_model()?,
    };
    let mut classifier = Classifier::load(
        &rt.environment,
        &model,
        &SessionSettings {
            device: Device::Cpu,
            threads: 1,
            spinning: false,
        },
    )?;
    let base = Preprocess::stretch(28, 28, Colour::Grey);
    let v = |fit, trim: Option<u8>, sharpen, ground, filter| Preprocess {
        fit,
        filter,
        photo: Some(PhotoSteps {
            trim_percent: trim,
            sharpen,
            ground,
        }),
        ..base.clone()
    };
    use Filter::*;
    use Fit::*;
    use Ground::*;
    let variants: Vec<(&str, Preprocess)> = vec![
        ("stretch (as before)", base.clone()),
        ("negate", v(Stretch, None, false, Dark, Bilinear)),
        ("fit+negate", v(Pad, None, false, Dark, Bilinear)),
        ("trim+negate", v(Stretch, Some(5), false, Dark, Bilinear)),
        ("trim+fit+negate", v(Pad, Some(5), false, Dark, Bilinear)),
        ("all", v(Pad, Some(5), true, Dark, Bilinear)),
        ("all - negate", v(Pad, Some(5), true, Own, Bilinear)),
        ("all - trim", v(Pad, None, true, Dark, Bilinear)),
        ("all - fit", v(Stretch, Some(5), true, Dark, Bilinear)),
        ("all box", v(Pad, Some(5), true, Dark, Box)),
        ("all trim 10", v(Pad, Some(10), true, Dark, Bilinear)),
        ("all trim 15", v(Pad, Some(15), true, Dark, Bilinear)),
    ];
    let limits = Limits::default();
    let mut run = |name: &str, files: &[(Vec<u8>, Vec<usize>)], variants: &[(&str, Preprocess)]| {
        for (what, p) in variants {
            let pixels: Vec<u8> = files
                .par_iter()
                .flat_map(|(b, _)| {
                    let mut o = vec![0; 784];
                    decode_bytes(b, p, &limits, &mut o).unwrap();
                    if what.contains("level") || what.contains("abs") {
                        let g = i32::from(ring(b).1);
                        let zone = if what.contains("zone") { 13 } else { 0 };
                        for v in &mut o {
                            let d = if g >= 128 {
                                g - i32::from(*v)
                            } else {
                                i32::from(*v) - g
                            };
                            let d = if what.contains("abs") { d.abs() } else { d };
                            let d = if d.abs() <= zone { 0 } else { d };
                            *v = (d * 255 / if g >= 128 { g } else { 255 - g }).clamp(0, 255) as u8;
                        }
                    }

                    o
                })
                .collect();
            let mut right = 0;
            let mut conf = 0.0;
            let mut per = std::collections::BTreeMap::<usize, (usize, usize)>::new();
            for (i, chunk) in files.chunks(256).enumerate() {
                let pr = classifier
                    .classify(
                        &pixels[i * 256 * 784..(i * 256 + chunk.len()) * 784],
                        chunk.len(),
                    )
                    .unwrap();
                for (row, (_, ok)) in pr.probabilities.outer_iter().zip(chunk) {
                    let a = argmax(row);
                    conf += row[a];
                    let e = per.entry(ok[0]).or_default();
                    e.1 += 1;
                    if ok.contains(&a) {
                        right += 1;
                        e.0 += 1;
                    }
                }
            }
            let mean = per
                .values()
                .map(|(a, b)| *a as f64 / *b as f64)
                .sum::<f64>()
                / per.len() as f64;
            println!(
                "{name}\t{what}\t{}/{}\t{:.3}\tmean of classes {mean:.3}\tconfidence {:.2}",
                right,
                files.len(),
                right as f64 / files.len() as f64,
                conf / files.len() as f32
            );
        }
    };
    let map: [(&str, &[usize]); 7] = [
        ("t-shirt", &[0]),
        ("pants", &[1]),
        ("longsleeve", &[2]),
        ("dress", &[3]),
        ("outwear", &[4]),
        ("shirt", &[6]),
        ("shoes", &[7, 5, 9]),
    ];
    let (mut all, mut plain, mut light) = (vec![], vec![], vec![]);
    for part in ["train", "validation"] {
        for (class, ok) in map {
            let mut paths: Vec<_> =
                std::fs::read_dir(format!("/work/shared/clothing/{part}/{class}"))?
                    .map(|e| e.unwrap().path())
                    .collect();
            paths.sort();
            for path in paths {
                let b = std::fs::read(path)?;
                all.push((b, ok.to_vec()));
            }
        }
    }
    let rings: Vec<(f64, u8)> = all.par_iter().map(|(b, _)| ring(b)).collect();
    for (f, r) in all.iter().zip(&rings) {
        if r.0 >= 0.9 {
            plain.push(f.clone());
            if r.1 >= 128 {
                light.push(f.clone());
            }
        }
    }
    println!(
        "photos {} plain {} of these light {}",
        all.len(),
        plain.len(),
        light.len()
    );
    let _ = &variants;
    let few: Vec<(&str, Preprocess)> = vec![
        ("as before", base.clone()),
        ("all", v(Pad, Some(5), true, Dark, Bilinear)),
        ("no trim", v(Pad, None, true, Dark, Bilinear)),
        ("no fit", v(Stretch, Some(5), true, Dark, Bilinear)),
        ("no sharpen", v(Pad, Some(5), false, Dark, Bilinear)),
        ("no ground", v(Pad, Some(5), true, Own, Bilinear)),
        ("box", v(Pad, Some(5), true, Dark, Box)),
        ("trim 10", v(Pad, Some(10), true, Dark, Bilinear)),
        ("crop", v(Crop, Some(5), true, Dark, Bilinear)),
    ];
    run("plain", &plain, &few); run("all", &all, &few);
    let data = dataset::load(
        &Source::FashionMnist,
        &LoadSettings {
            pixels: Pixels::Wished {
                size: None,
                colour: None,
            },
            parts: Parts::All,
            purpose: Purpose::Evaluation,
            cache: settings.cache,
            offline: true,
        },
    )?;
    let test = data.test.unwrap();
    let mut edges = 0;
    for i in 0..test.len() {
        let im = test.image(i, 784);
        let mut r: Vec<u8> = (0..28)
            .flat_map(|k| [im[k], im[27 * 28 + k], im[k * 28], im[k * 28 + 27]])
            .collect();
        r.sort();
        if r[56] >= 128 {
            edges += 1;
        }
    }
    println!("test images with a light ring {edges} of {}", test.len());
    for ground in [255, 245_i32, 190, 40] {
        let files: Vec<_> = (0..1000)
            .into_par_iter()
            .map(|i| {
                let im = image::GrayImage::from_raw(28, 28, test.image(i, 784).to_vec()).unwrap();
                let im =
                    image::imageops::resize(&im, 280, 280, image::imageops::FilterType::CatmullRom);
                let mut state = (i as u32 + 1).wrapping_mul(2_654_435_761);
                let photo = image::RgbImage::from_fn(400, 533, |x, y| {
                    state ^= state << 13;
                    state ^= state >> 17;
                    state ^= state << 5;
                    let noise = (state % 5) as i32 - 2;
                    let v = if (60..340).contains(&x) && (120..1000).contains(&y) {
                        i32::from(im.get_pixel(x - 60, y - 120).0[0])
                    } else {
                        0
                    };
                    let v = if ground >= 128 {
                        ground - v * ground / 255
                    } else {
                        ground + v * (255 - ground) / 255
                    };
                    image::Rgb([(v + noise).clamp(0, 255) as u8; 3])
                });
                let mut c = Cursor::new(vec![]);
                image::codecs::jpeg::JpegEncoder::new_with_quality(&mut c, 85)
                    .encode_image(&photo)
                    .unwrap();
                (c.into_inner(), vec![test.labels[i] as usize])
            })
            .collect();
        run(&format!("drawn on {ground}"), &files, &few);
    }

    for (name, filter, side) in [("280 nearest", image::imageops::FilterType::Nearest, 280), ("280 cubic", image::imageops::FilterType::CatmullRom, 280), ("90 triangle", image::imageops::FilterType::Triangle, 90)] {
        let files: Vec<_> = (0..2000).into_par_iter().map(|i| {
            let im = image::GrayImage::from_raw(28, 28, test.image(i, 784).to_vec()).unwrap();
            let im = image::imageops::resize(&im, side, side, filter);
            let mut c = Cursor::new(vec![]); im.write_to(&mut c, image::ImageFormat::Png).unwrap(); (c.into_inner(), vec![test.labels[i] as usize]) }).collect();
        run(name, &files, &few);
    }
    Ok(())
}
