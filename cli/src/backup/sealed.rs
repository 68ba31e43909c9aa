//! Pure: a backup as a file: encrypted with AES-256-GCM, by a key that PBKDF2-HMAC-SHA256 makes of a passphrase. What is readable
//! without it, which set of which hub and when, cannot be changed either.

use std::num::NonZeroU32;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    pbkdf2,
};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

/// Says what the file is, and its version.
const FORMAT: &str = "landbridge-hub-backup/1";
/// What OWASP's password storage cheat sheet asked of PBKDF2-HMAC-SHA256 in 2023 and more: a third of a second here, for each guess.
const ITERATIONS: u32 = 1_000_000;
/// A file that asks for more is there to keep somebody busy.
const MOST_ITERATIONS: u32 = 20_000_000;
/// Shorter ones are guessed whatever is done.
const SHORTEST: usize = 12;
const KEY: usize = 32;
pub(crate) const SALT: usize = 16;

/// What is drawn for one backup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    pub(crate) salt: [u8; SALT],
    pub(crate) nonce: [u8; NONCE_LEN],
}

impl Drawn {
    /// From so many random bytes: a new key each time, so that no nonce is used twice.
    pub(crate) fn of(random: [u8; 32]) -> Self {
        let mut drawn = Self { salt: [0; SALT], nonce: [0; NONCE_LEN] };
        drawn.salt.copy_from_slice(&random[..SALT]);
        drawn.nonce.copy_from_slice(&random[SALT..SALT + NONCE_LEN]);
        drawn
    }
}

/// What can be read of a backup by anybody.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct About {
    pub(crate) cluster_set: String,
    pub(crate) hub: String,
    /// When it was taken.
    pub(crate) taken: String,
}

/// The file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    format: String,
    about: About,
    iterations: u32,
    salt: String,
    nonce: String,
    sealed: String,
}

/// Encrypts.
///
/// # Errors
/// A passphrase that is too short.
pub(crate) fn seal(
    about: About,
    plain: &[u8],
    passphrase: &str,
    drawn: Drawn,
) -> Result<String, String> {
    if passphrase.chars().count() < SHORTEST {
        return Err(format!("the passphrase is too short: take {SHORTEST} characters at least"));
    }
    let key = key(passphrase, &drawn.salt, ITERATIONS).ok_or("no key can be made of it")?;
    let mut sealed = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key(drawn.nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(bound(&about, ITERATIONS)), &mut sealed)
        .map_err(|_| "it cannot be encrypted")?;
    let file = File {
        format: FORMAT.to_owned(),
        about,
        iterations: ITERATIONS,
        salt: BASE64.encode(&drawn.salt),
        nonce: BASE64.encode(&drawn.nonce),
        sealed: BASE64.encode(&sealed),
    };
    serde_json::to_string_pretty(&file).map_err(|error| error.to_string())
}

/// Decrypts.
///
/// # Errors
/// What is no backup, was changed, or has another passphrase.
pub(crate) fn open(text: &str, passphrase: &str) -> Result<(About, Vec<u8>), String> {
    let broken =
        |what: &str| format!("this is no backup of a hub, or not the whole of one: {what}");
    let file: File = serde_json::from_str(text).map_err(|error| broken(&error.to_string()))?;
    if file.format != FORMAT {
        return Err(format!(
            "this is a backup of another form, {}: take the `landbridge` that has made it",
            file.format
        ));
    }
    let decoded = |name: &str, text: &str| {
        BASE64.decode(text.as_bytes()).map_err(|error| broken(&format!("{name}: {error}")))
    };
    let salt = decoded("salt", &file.salt)?;
    let nonce: [u8; NONCE_LEN] =
        decoded("nonce", &file.nonce)?.try_into().map_err(|_| broken("nonce: its length"))?;
    let mut sealed = decoded("sealed", &file.sealed)?;
    if file.iterations > MOST_ITERATIONS {
        return Err(broken("iterations: more than anybody makes"));
    }
    let key = key(passphrase, &salt, file.iterations).ok_or_else(|| broken("iterations: none"))?;
    let bound = Aad::from(bound(&file.about, file.iterations));
    let opened = key.open_in_place(Nonce::assume_unique_for_key(nonce), bound, &mut sealed);
    let plain = opened.map_err(|_| "the passphrase is another one, or the file was changed")?;
    Ok((file.about, plain.to_vec()))
}

fn key(passphrase: &str, salt: &[u8], iterations: u32) -> Option<LessSafeKey> {
    let mut bytes = [0; KEY];
    let iterations = NonZeroU32::new(iterations)?;
    let how = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(how, iterations, salt, passphrase.as_bytes(), &mut bytes);
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?))
}

/// What is readable, as it is bound to what is not.
fn bound(about: &About, iterations: u32) -> Vec<u8> {
    let About { cluster_set, hub, taken } = about;
    format!("{FORMAT}\n{cluster_set}\n{hub}\n{taken}\n{iterations}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &str = "correct horse battery staple";

    fn sealed() -> String {
        let about =
            About { cluster_set: "prod".into(), hub: "paris".into(), taken: "2026-09-21".into() };
        seal(about, b"the root's key", PASSPHRASE, Drawn::of([7; 32])).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_passphrase_alone() {
        let text = sealed();
        assert!(text.contains("\"hub\": \"paris\""), "{text}");
        let (about, plain) = open(&text, PASSPHRASE).unwrap();
        assert_eq!((about.hub.as_str(), &plain[..]), ("paris", &b"the root's key"[..]));
        let told = open(&text, "another passphrase").unwrap_err();
        assert_eq!(told, "the passphrase is another one, or the file was changed");
    }

    #[test]
    fn nothing_of_a_backup_can_be_changed() {
        let text = sealed();
        for (from, to) in [("paris", "tokyo"), ("2026-09-21", "2026-09-22")] {
            let told = open(&text.replace(from, to), PASSPHRASE).unwrap_err();
            assert!(told.contains("or the file was changed"), "{from}: {told}");
        }
        for (from, to, says) in [
            (FORMAT, "landbridge-hub-backup/2", "of another form, landbridge-hub-backup/2"),
            ("1000000", "4000000000", "more than anybody makes"),
            ("1000000", "0", "iterations: none"),
            ("\"nonce\": \"", "\"nonce\": \"AAAA", "nonce"),
        ] {
            let told = open(&text.replace(from, to), PASSPHRASE).unwrap_err();
            assert!(told.contains(says), "{from}: {told}");
        }
        assert!(open(&text[..text.len() / 2], PASSPHRASE).unwrap_err().contains("no backup"));
    }

    #[test]
    fn a_short_passphrase_is_refused() {
        let about = About { cluster_set: String::new(), hub: String::new(), taken: String::new() };
        let told = seal(about, b"", "secret", Drawn::of([0; 32])).unwrap_err();
        assert!(told.contains("12 characters"), "{told}");
    }
}
