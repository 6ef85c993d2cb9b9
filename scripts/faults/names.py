"""Hostile file names through `catalog classify` and back, as Python's csv, pandas and DuckDB read them.

    python3 scripts/faults/names.py target/release/catalog [names.txt]

`names.txt` may hold more names, one a line (such as npm's `blns`). pandas and DuckDB are used where they are installed.
"""

import csv
import os
import subprocess
import sys
import tempfile
import urllib.parse

NAMES = [
    b"plain.jpg", b"two words.jpg", b'say "cheese".jpg', b"it's.jpg", b"a,b.jpg", b"a;b.jpg", b"line\nfeed.jpg", b"return\r.jpg",
    b"tab\t.jpg", b"\t first", b"=1+1.jpg", b"+1", b"-n", b"@x", b"#x", b"NULL", b"null", b"NaN", b"", b"%41.jpg", b"100%", b"%%0A", b"\x7f",
    b"caf\xe9.jpg", b"\xff\xfe", b"caf\xc3\xa9.jpg", "😀.png".encode(), "\u2028.jpg".encode(), "\u202egnp.jpg".encode(), b".hidden",
    b"UPPER.JPG", b"no extension", b"back\\slash", b"x" * 255, b"*?[a]", b"$(id)", b"`id`", b"a\x01b", b"trailing ", b" leading",
]


def main():
    program = os.path.abspath(sys.argv[1])
    names = [name for name in NAMES if name]
    if len(sys.argv) > 2:
        with open(sys.argv[2], "rb") as file:
            lines = file.read().split(b"\n")
        names += [line for line in lines if line and b"/" not in line and len(line) <= 255 and line not in (b".", b"..")]
    names = sorted(set(names))
    with tempfile.TemporaryDirectory() as folder:
        photos = os.path.join(os.fsencode(folder), b"photos")
        os.mkdir(photos)
        for name in names:
            with open(os.path.join(photos, name), "wb") as file:
                file.write(b"no image " + name)
        run = subprocess.run([program, "classify", "photos", "--out", "labels.csv", "--quiet"], cwd=folder)
        assert run.returncode == 3, run.returncode
        path = os.path.join(folder, "labels.csv")
        readers = {"csv": read_csv, "pandas": read_pandas, "duckdb": read_duckdb}
        for library, read in readers.items():
            try:
                cells = read(path)
            except ImportError:
                print(f"{library}: SKIPPED, not installed")
                continue
            # Everything is below the folder, so every path begins with `./`.
            assert all(cell.startswith("./") for cell in cells)
            found = sorted(urllib.parse.unquote_to_bytes(cell)[2:] for cell in cells)
            assert found == names, (library, set(found) ^ set(names))
            print(f"{library}: {len(found)} names came back")


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return [row["path"] for row in csv.DictReader(file, strict=True)]


def read_pandas(path):
    import pandas

    return list(pandas.read_csv(path, dtype=str, keep_default_na=False)["path"])


def read_duckdb(path):
    import duckdb

    return [row[0] for row in duckdb.sql(f"select path from read_csv('{path}', header=true, all_varchar=true)").fetchall()]


if __name__ == "__main__":
    main()
