//! Random bytes from the operating system.

/// The system has no randomness to give.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system gives no random numbers")]
pub(crate) struct NoRandomness;

/// Fresh random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// `N` characters of Crockford's base 32: five bits each, none easily taken for another.
pub(crate) fn readable<const N: usize>() -> Result<String, NoRandomness> {
    Ok(written(&bytes::<N>()?))
}

/// Bytes as such characters, five bits of each.
pub(crate) fn written(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)])).collect()
}

/// What a person typed, as [`readable`] wrote it: case, dashes, blanks and look-alikes do not matter.
pub(crate) fn as_read(typed: &str) -> String {
    let kept = typed.chars().filter(|letter| !matches!(letter, '-' | ' '));
    kept.map(|letter| match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_aloud_comes_back() {
        let code = readable::<200>().unwrap();
        assert_eq!(as_read(&code.to_lowercase()), code);
        assert_eq!(as_read("abcd-o0il 9"), "ABCD00119");
        assert_ne!(readable::<16>().unwrap(), readable::<16>().unwrap());
    }
}
