//! The fuzzer's seeds, and whatever it has found, go through the fuzzer's own functions on a stable compiler.

use std::{fs, path::Path};

/// Gives every seed of a target to its function; some must be accepted, and some not.
pub fn replay(target: &str, entry: fn(&[u8]) -> bool) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let corpora = here.map(|folder| folder.join("tests/fuzz/corpus")).find(|corpora| corpora.is_dir());
    let corpus = corpora.expect("a folder above has the seeds").join(target);
    let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let (mut count, mut accepted) = (0, 0);
    for file in files {
        let path = file.expect("the directory can be read").path();
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        accepted += u32::from(entry(&bytes));
        count += 1;
    }
    assert!(accepted > 0 && count > accepted, "{target}: {accepted} of {count} seeds were accepted");
}
