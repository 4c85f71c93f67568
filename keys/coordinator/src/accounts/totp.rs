//! Codes of an authenticator and of a list on paper: making, showing, checking. RFC 6238: SHA-1, six digits, 30 s.

use data_encoding::BASE32_NOPAD;
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use totp_rs::{Builder, Secret, Totp, TotpError};
use zeroize::Zeroizing;

use super::vault::TotpSecret;
use crate::random::{self, NoRandomness};

/// Seconds of a step.
const STEP: u64 = 30;
/// Digits of a code.
const DIGITS: usize = 6;
/// Letters of a recovery code without its dash: 40 bits.
const RECOVERY: usize = 8;
/// Recovery codes of a set.
pub(crate) const RECOVERY_CODES: usize = 10;
/// The picture is at least so many pixels wide.
const PICTURE: u32 = 240;

/// A second factor as somebody typed it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum TypedCode {
    /// Six digits of the authenticator.
    Digits(Zeroizing<String>),
    /// A recovery code, in the form in which it was made.
    Recovery(Zeroizing<String>),
}

impl std::fmt::Debug for TypedCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TypedCode")
    }
}

impl TypedCode {
    /// Reads what was typed; what can be neither is none.
    pub(crate) fn read(typed: &str) -> Option<Self> {
        // No code is longer, with all the blanks and dashes that people put in.
        let typed = Some(typed.trim()).filter(|typed| typed.len() <= 32)?;
        let digits: Zeroizing<String> =
            Zeroizing::new(typed.chars().filter(|letter| !matches!(letter, ' ' | '-')).collect());
        if digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Some(Self::Digits(digits));
        }
        let letters = Zeroizing::new(random::as_read(typed));
        let whole = letters.len() == RECOVERY && letters.bytes().all(|letter| letter.is_ascii_alphanumeric());
        whole.then_some(Self::Recovery(letters))
    }
}

/// The step whose code this is, one step early or late included.
pub(crate) fn matching_step(secret: &TotpSecret, digits: &str, now: u64) -> Option<u64> {
    totp(secret, "", "").ok()?.check(digits, now)
}

/// What an authenticator must be told.
#[derive(Clone)]
pub(crate) struct Picture {
    pub(crate) secret_base32: String,
    pub(crate) otpauth_uri: String,
    /// The same as a QR code.
    pub(crate) qr_svg: String,
}

/// Shows a secret to the one whose it is.
pub(crate) fn picture(secret: &TotpSecret, email: &str, cluster: &str) -> Result<Picture, TotpError> {
    let otpauth_uri = totp(secret, email, &format!("mytunnel {cluster}"))?.to_url()?;
    // The longest address and domain need a third of what a QR code can hold.
    let qr_svg = QrCode::with_error_correction_level(&otpauth_uri, EcLevel::M)
        .map(|code| code.render::<svg::Color<'_>>().min_dimensions(PICTURE, PICTURE).build())
        .unwrap_or_default();
    Ok(Picture { secret_base32: BASE32_NOPAD.encode(secret.as_slice()), otpauth_uri, qr_svg })
}

fn totp(secret: &TotpSecret, email: &str, issuer: &str) -> Result<Totp, TotpError> {
    let builder = Builder::new()
        .with_secret(Secret::new_stack(**secret))
        .with_digits(6)
        .with_skew(1)
        .with_step_duration(STEP);
    // A colon separates issuer and address in the URI.
    let named = |text: &str| text.replace(':', "_");
    builder
        .with_account_name(named(email))
        .with_issuer(Some(named(issuer)).filter(|name| !name.is_empty()))
        .build()
}

/// A new set of recovery codes, as people see them.
pub(crate) fn new_recovery_codes() -> Result<Vec<String>, NoRandomness> {
    (0..RECOVERY_CODES)
        .map(|_| {
            let code = random::readable::<RECOVERY>()?.to_ascii_lowercase();
            Ok(format!("{}-{}", &code[..4], &code[4..]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret and a code of RFC 6238, appendix B, cut to six digits.
    const RFC: &[u8; 20] = b"12345678901234567890";

    fn recovery(text: &str) -> TypedCode {
        TypedCode::Recovery(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn codes_are_those_of_the_standard_one_step_early_or_late() {
        let secret = Zeroizing::new(*RFC);
        // 59 s is in step 1; its eight digits are 94287082.
        for now in [0, 30, 59, 60, 89] {
            assert_eq!(matching_step(&secret, "287082", now), Some(1), "{now}");
        }
        for now in [90, 1_800_000_000] {
            assert_eq!(matching_step(&secret, "287082", now), None, "{now}");
        }
        assert_eq!(matching_step(&secret, "005924", 1_234_567_890), Some(1_234_567_890 / 30));
        assert_eq!(matching_step(&secret, "", 59), None);
    }

    #[test]
    fn what_people_type_is_read() {
        let digits = TypedCode::Digits(Zeroizing::new("123456".to_owned()));
        for typed in ["123456", " 123 456 ", "123-456"] {
            assert_eq!(TypedCode::read(typed), Some(digits.clone()), "{typed}");
        }
        for typed in ["abcd-0123", "ABCD 0123", "abcdO123", " abcd-oI23"] {
            assert_eq!(TypedCode::read(typed), Some(recovery("ABCD0123")), "{typed}");
        }
        for bad in ["", "12345", "1234567", "abcd", "abcd-01234", "ä234-0123", &"1".repeat(5000)] {
            assert_eq!(TypedCode::read(bad), None, "{bad:.20}");
        }
    }

    #[test]
    fn an_authenticator_is_told_everything_by_the_uri_and_the_picture() {
        let shown = picture(&Zeroizing::new(*RFC), "ann:x@b.example", "t.example").unwrap();
        assert_eq!(shown.secret_base32, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let uri = &shown.otpauth_uri;
        assert!(uri.starts_with("otpauth://totp/mytunnel%20t.example:ann_x%40b.example?"), "{uri}");
        assert!(uri.contains(&format!("secret={}", shown.secret_base32)), "{uri}");
        assert!(shown.qr_svg.contains("<svg") && !shown.qr_svg.contains("style="), "{}", shown.qr_svg);
        let long = format!("{}@b.example", "a".repeat(240));
        assert!(!picture(&Zeroizing::new(*RFC), &long, &"d".repeat(200)).unwrap().qr_svg.is_empty());
    }

    #[test]
    fn recovery_codes_are_ten_different_ones_that_read_back() {
        let codes = new_recovery_codes().unwrap();
        let unlike: std::collections::BTreeSet<&String> = codes.iter().collect();
        assert_eq!((codes.len(), unlike.len()), (10, 10));
        for code in &codes {
            assert_eq!((code.len(), &code[4..5]), (9, "-"));
            let read = TypedCode::read(code);
            // Eight digits are letters too; six would be the authenticator's.
            assert!(matches!(read, Some(TypedCode::Recovery(_))), "{code}");
        }
    }
}
