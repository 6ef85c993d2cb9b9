//! `catalog diff`: what two files of labels of the same folder say differently, as a table, a CSV, a page and an exit code.

use std::fmt::Write as _;
use std::fs;

use crate::testenv::{Half, TestEnv, halves_model};

const OLD: &str = "\
path,label,confidence,status,error
./a.png,shoe,0.900000,ok,
./b/c.png,coat,0.800000,ok,
./b-d.png,\"<bag>, \"\"big\"\"\",0.700000,ok,
./e.png,,,corrupt,broken
./f.png,coat,0.600000,ok,
./gone.png,coat,0.600000,ok,
";

const NEW: &str = "\
path,label,confidence,label_2,confidence_2,status,error
./a.png,boot,0.950000,shoe,0.050000,ok,
./added.png,boot,0.950000,shoe,0.050000,ok,
./b/c.png,coat,0.500000,shoe,0.100000,ok,
./b-d.png,,,,,vanished,gone
./e.png,shoe,0.500000,coat,0.500000,degraded,cut
./f.png,coat,0.600000,shoe,0.300000,ok,
";

/// Two small files of labels.
fn shop() -> TestEnv {
    let env = TestEnv::new();
    env.write("old.csv", OLD);
    env.write("new.csv", NEW);
    env
}

/// Runs `catalog diff`, which needs no library.
fn diff(env: &TestEnv, options: &[&str]) -> crate::testenv::Finished {
    let command = [&["diff", "old.csv", "new.csv"], options].concat();
    crate::testenv::finish(&mut env.bare_command(&command))
}

#[test]
fn the_terminal_gets_a_short_table() {
    let env = shop();
    let finished = diff(&env, &[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    insta::assert_snapshot!(finished.stdout, @r#"
    5 files in both (6 old, 6 new): 3 in another category, 60.00 %

    change                              files  of both
    label   another label                   1  20.00 %
    lost    no label any more               1  20.00 %
    gained  a label for the first time      1  20.00 %
    added   only in the new labels          1
    gone    only in the old labels          1

    old label     new label  files  of the old label
    no label      shoe           1          100.00 %
    <bag>, "big"  no label       1          100.00 %
    shoe          boot           1          100.00 %

    confidence of the 2 files that keep their label: mean 0.7000 before, 0.5500 now; 0 rose, 1 fell
    "#);
    let remark = "1 files are only in the new labels and 1 only in the old ones";
    assert!(finished.stderr.contains(remark), "{finished:?}");
}

#[test]
fn the_csv_has_every_change_and_nothing_else() {
    let env = shop();
    let finished = diff(&env, &["--out", "changes.csv"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    insta::assert_snapshot!(env.read("changes.csv"), @r#"
    path,change,old_label,new_label,old_confidence,new_confidence,old_status,new_status
    ./a.png,label,shoe,boot,0.900000,0.950000,ok,ok
    ./added.png,added,,boot,,0.950000,,ok
    ./b-d.png,lost,"<bag>, ""big""",,0.700000,,ok,vanished
    ./e.png,gained,,shoe,,0.500000,corrupt,degraded
    ./gone.png,gone,coat,,0.600000,,ok,
    "#);

    // With moves, and to standard output, where nothing else goes then.
    let finished = diff(&env, &["--out", "-", "--min-move", "0.3"]);
    assert!(
        finished
            .stdout
            .contains("./b/c.png,confidence,coat,coat,0.800000,0.500000,ok,ok\n"),
        "{finished:?}"
    );
    assert_eq!(finished.stdout.lines().count(), 1 + 6, "{finished:?}");
    assert!(finished.stderr.contains("5 files in both"), "{finished:?}");
    let without = diff(&env, &["--out", "-", "--min-move", "0.31"]);
    assert_eq!(without.stdout, env.read("changes.csv"));
}

#[test]
fn decisions_are_compared_where_both_have_them() {
    let env = TestEnv::new();
    let labels = |decision: &str| {
        format!("path,label,confidence,status,error,decision\n./a,bag,0.5,ok,,{decision}\n")
    };
    env.write("old.csv", labels("accept"));
    env.write("new.csv", labels("review"));
    let finished = diff(&env, &["--out", "-", "--max-changes", "0"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished
            .stdout
            .ends_with("./a,decision,bag,bag,0.500000,0.500000,ok,ok,accept,review\n"),
        "{finished:?}"
    );
    env.write(
        "new.csv",
        "path,label,confidence,status,error\n./a,bag,0.5,ok,\n",
    );
    let finished = diff(&env, &["--out", "-"]);
    assert_eq!(finished.stdout.lines().count(), 1, "{finished:?}");
    assert!(!finished.stdout.contains("decision"), "{finished:?}");
}

#[test]
fn labels_that_were_cut_pass_no_gate() {
    let env = shop();
    let report = r#"{"labels": {"format": "csv", "rows": 7, "digest": "", "shard": null, "tree": {"files": 7, "digest": ""}, "made_with": {}}}"#;
    env.write("new.csv.report.json", report);
    let said = "new.csv has 6 rows, the report new.csv.report.json is about 7: the labels were cut";
    let finished = diff(&env, &[]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stderr.contains(said), "{finished:?}");
    let finished = diff(&env, &["--max-changes", "100%", "--out", "changes.csv"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains(said), "{finished:?}");
    assert!(!env.path("changes.csv").exists());
}

#[test]
fn the_gate_has_an_exit_code_of_its_own_and_writes_everything_all_the_same() {
    let env = shop();
    // Three of five files are in another category.
    for (allowed, code) in [("3", 0), ("60%", 0), ("2", 4), ("59.9%", 4), ("0", 4)] {
        let files = [
            "--out",
            "changes.csv",
            "--html",
            "diff.html",
            "--max-changes",
            allowed,
        ];
        let finished = diff(&env, &files);
        assert_eq!(finished.code, Some(code), "{allowed}: {finished:?}");
        let said = "3 of 5 files are in another category, more than the";
        assert_eq!(finished.stderr.contains(said), code == 4, "{finished:?}");
        assert_eq!(env.read("diff.html").contains(said), code == 4);
        for file in ["changes.csv", "diff.html"] {
            fs::remove_file(env.path(file)).unwrap();
        }
    }
    env.write(
        "new.csv",
        "path,label,confidence,status,error\n/shop/a.png,shoe,0.9,ok,\n",
    );
    let finished = diff(&env, &["--max-changes", "100%", "--out", "changes.csv"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.error_lines()[0].contains("no file is in both"),
        "{finished:?}"
    );
    assert!(!env.path("changes.csv").exists());
}

#[test]
fn what_cannot_be_compared_is_named_with_its_line() {
    let env = shop();
    env.write("changes.csv", "as it was");
    let header = "path,label,confidence,status,error";
    for (new, said) in [
        (
            format!("{header}\n./b.png,bag,1,ok,\n./a.png,bag,1,ok,\n"),
            "line 3 of new.csv is out of order: ./a.png stands behind ./b.png",
        ),
        (
            format!("{header}\n./b.png,bag,1,ok,\n./b.png,bag,1,ok,\n"),
            "line 3 of new.csv has ./b.png for the second time",
        ),
        (
            format!("{header}\n./b.png,bag,1\n"),
            "line 2 of new.csv has 3 cells",
        ),
        (
            format!("{header}\n./b.png,bag,two,ok,\n"),
            "\"two\" is no confidence",
        ),
        ("name,price\n".to_owned(), "names no column `path`"),
        (
            "{\"path\":\"./a.png\"}\n".to_owned(),
            "without --format jsonl",
        ),
    ] {
        env.write("new.csv", new);
        let finished = diff(&env, &["--out", "changes.csv"]);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let [error] = finished.error_lines()[..] else {
            panic!("not one error line: {finished:?}");
        };
        assert!(error.contains(said), "{error}");
        assert_eq!(env.read("changes.csv"), "as it was");
    }
    let entries = fs::read_dir(env.path("")).unwrap().count();
    assert_eq!(entries, 3, "nothing half-written is left");
}

#[test]
fn places_and_options_that_make_no_sense_are_refused() {
    let env = shop();
    for (options, code, said) in [
        (
            &["--out", "old.csv"][..],
            1,
            "one of the files that are compared",
        ),
        (
            &["--out", "x", "--html", "x"],
            1,
            "cannot have the same file",
        ),
        (&["--html", "no/such/folder.html"], 1, "cannot be written"),
        (
            &["--html", "x.html", "--pictures", "nowhere"],
            1,
            "nowhere is no folder",
        ),
        (&["--pictures", "."], 2, "--html"),
        (
            &["--max-changes", "many"],
            2,
            "a number of files, or a share",
        ),
        (&["--min-move", "2"], 2, "from 0 to 1"),
    ] {
        let finished = diff(&env, options);
        assert_eq!(finished.code, Some(code), "{options:?}: {finished:?}");
        assert!(finished.stderr.contains(said), "{options:?}: {finished:?}");
    }
    assert_eq!(env.read("old.csv"), OLD);
}

#[test]
fn the_page_stands_alone_and_shows_pictures_only_where_asked() {
    let env = shop();
    for (name, half) in [("a.png", Half::Top), ("b/c.png", Half::Left)] {
        env.write(&format!("shop/{name}"), "");
        half.image(30, 1)
            .save(env.path(&format!("shop/{name}")))
            .unwrap();
    }
    diff(&env, &["--html", "plain.html"]);
    let plain = env.read("plain.html");
    assert!(!plain.contains("<img"));
    let finished = diff(&env, &["--html", "diff.html", "--pictures", "shop"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let page = env.read("diff.html");
    assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), 2);
    for foreign in ["<script", "http:", "https:", "<link", "url(", "<bag>"] {
        assert!(!plain.contains(foreign), "{foreign}");
    }
    assert!(plain.contains("&lt;bag&gt;, &quot;big&quot;"), "{plain}");
    for heading in [
        "Summary",
        "Changes of category",
        "Changed files",
        "Labels",
        "Confidence",
        "Largest moves",
        "Statuses and decisions",
        "The two files",
    ] {
        assert!(plain.contains(&format!(">{heading}</h2>")), "{heading}");
    }

    // A picture that is gone, or that the labels claim to be elsewhere, is counted and no more.
    fs::remove_file(env.path("shop/a.png")).unwrap();
    let finished = diff(&env, &["--html", "diff.html", "--pictures", "shop"]);
    assert!(
        finished.stderr.contains("1 pictures could not be shown"),
        "{finished:?}"
    );
}

#[test]
fn two_nights_of_one_model_are_compared_with_what_their_reports_say() {
    let env = TestEnv::new();
    env.write("model.onnx", halves_model());
    fs::create_dir_all(env.path("shop")).unwrap();
    let save = |number: u64, half: Half| {
        half.image(20, 300 + number)
            .save(env.path(&format!("shop/{number:02}.png")))
            .unwrap();
    };
    (0..8).for_each(|number| save(number, Half::ALL[number as usize % 4]));
    let classify = |out: &str, options: &[&str]| {
        let command = ["classify", "shop", "--model", "model.onnx", "--out", out];
        env.succeed(&[&command[..], options].concat());
    };
    classify("old.csv", &[]);
    // Another picture under the same name, a new one, one that is gone.
    save(0, Half::ALL[1]);
    save(8, Half::Top);
    fs::remove_file(env.path("shop/07.png")).unwrap();
    classify("new.csv", &["--excel", "--top-k", "2"]);
    let finished = diff(
        &env,
        &["--html", "diff.html", "--max-changes", "0", "--out", "-"],
    );
    assert_eq!(finished.code, Some(4), "{finished:?}");
    let changes: Vec<String> = finished
        .stdout
        .lines()
        .map(|line| line.split(',').take(4).collect::<Vec<_>>().join(","))
        .collect();
    assert_eq!(
        changes,
        [
            "path,change,old_label,new_label",
            "./00.png,label,bottom,left",
            "./07.png,gone,top,",
            "./08.png,added,,top",
        ]
    );
    let page = env.read("diff.html");
    assert!(page.contains("Both are by the same model"), "{page}");
    assert!(page.contains("<bdi>--top-k</bdi></th><td class=\"words\"><bdi>1</bdi></td><td class=\"words\"><bdi>2</bdi></td>"), "{page}");
}

#[test]
fn a_reader_that_goes_away_changes_nothing_about_the_verdict() {
    let env = TestEnv::new();
    let labels = |label: &str| {
        let mut text = "path,label,confidence,status,error\n".to_owned();
        for file in 0..20_000 {
            let _ = writeln!(text, "./{file:06}.jpg,{label},0.5,ok,");
        }
        text
    };
    env.write("old.csv", labels("bag"));
    env.write("new.csv", labels("boot"));
    let mut command = env.bare_command(&[
        "diff",
        "old.csv",
        "new.csv",
        "--out",
        "-",
        "--max-changes",
        "1%",
    ]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(crate::testenv::wait(&mut child), Some(4));
}
