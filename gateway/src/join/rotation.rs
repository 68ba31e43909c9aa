//! Pure: how one root takes the place of another without anybody being cut off.
//!
//! ```text
//! stands ── a second one is made ──► prepared ── all trust it ──► signs ── all have been signed by it ──► stands
//!           root.pem, next.pem                   root.pem, old.pem
//! ```
//!
//! Members hear of roots when they renew what they have, and say then which ones they trust and which one has signed for
//! them. Nothing is taken away before everybody can do without it.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use landbridge_api::{
    landbridge::Member,
    wellknown::{SIGNED_BY, TRUSTED_ROOTS},
};

use super::{
    token::Fingerprint,
    trust::{CERTIFICATE, KEY, NEXT, NEXT_KEY, OLD, TrustError, fingerprint, read},
};
use crate::pki::Root;

/// How far it has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stage {
    /// There is one root.
    Stands,
    /// A second one is there, and is to be trusted by all before it signs.
    Prepared(Fingerprint),
    /// It signs, and the one before it is trusted as long as somebody needs that.
    Signs(Fingerprint),
}

/// Reads it off what the hub keeps.
///
/// # Errors
/// [`TrustError`] where that cannot be used.
pub fn stage(secret: &Secret) -> Result<Stage, TrustError> {
    let root = read(secret)?;
    if let Some(next) = text(secret, NEXT) {
        return Ok(Stage::Prepared(fingerprint(next)?));
    }
    Ok(match text(secret, OLD) {
        Some(_) => Stage::Signs(fingerprint(&root.cert_pem())?),
        None => Stage::Stands,
    })
}

/// Who keeps it from going on: members that have not said yet that they trust the root, or that it has signed for them.
#[must_use]
pub fn awaited(stage: &Stage, members: &[Member]) -> Vec<String> {
    let (annotation, root) = match stage {
        Stage::Stands => return Vec::new(),
        Stage::Prepared(root) => (TRUSTED_ROOTS, root),
        Stage::Signs(root) => (SIGNED_BY, root),
    };
    let has = |member: &&Member| {
        let annotations = member.metadata.annotations.as_ref();
        let said = annotations.and_then(|all| all.get(annotation)).map(String::as_str);
        let root = root.to_string();
        said.unwrap_or_default().split(',').any(|one| one == root)
    };
    let late = members.iter().filter(|member| !has(member));
    late.filter_map(|member| member.metadata.name.clone()).collect()
}

/// What the hub keeps at the next stage. `made` is a new root, for where there is one only.
///
/// # Errors
/// [`TrustError`] where what it keeps cannot be used.
pub fn advanced(secret: &Secret, made: &Root) -> Result<Secret, TrustError> {
    let mut after = secret.clone();
    let stage = stage(secret)?;
    let data = after.data.get_or_insert_default();
    match stage {
        Stage::Stands => {
            put(data, NEXT, made.cert_pem());
            put(data, NEXT_KEY, made.key_pem());
        }
        Stage::Prepared(_) => {
            let [next, key] = [NEXT, NEXT_KEY]
                .map(|name| text(secret, name).map(str::to_owned).ok_or(TrustError::Missing(name)));
            let (next, key) = (next?, key?);
            // It has to be usable before the one that signs goes.
            Root::from_pem(&next, &key)?;
            put(data, OLD, text(secret, CERTIFICATE).unwrap_or_default().to_owned());
            put(data, CERTIFICATE, next);
            put(data, KEY, key);
            data.remove(NEXT);
            data.remove(NEXT_KEY);
        }
        Stage::Signs(_) => drop(data.remove(OLD)),
    }
    Ok(after)
}

fn put(data: &mut BTreeMap<String, ByteString>, name: &str, text: String) {
    data.insert(name.to_owned(), ByteString(text.into_bytes()));
}

fn text<'a>(secret: &'a Secret, name: &str) -> Option<&'a str> {
    let value = secret.data.as_ref()?.get(name)?;
    std::str::from_utf8(&value.0).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use landbridge_api::landbridge::MemberSpec;
    use landbridge_model::Timestamp;

    use super::*;
    use crate::join::trust::{fingerprints, read_all, to_secret};

    fn root() -> Root {
        let now = Timestamp::from_millis(1_790_000_000_000);
        Root::generate(&"prod".parse().unwrap(), now).unwrap()
    }

    fn member(name: &str, annotation: &str, said: &str) -> Member {
        let mut member = Member::new(name, MemberSpec::default());
        member.metadata.annotations = Some([(annotation.to_owned(), said.to_owned())].into());
        member
    }

    #[test]
    fn at_every_stage_the_one_that_signs_is_trusted_and_the_other_one_beside_it() {
        let (old, new) = (root(), root());
        let [old_print, new_print] =
            [&old, &new].map(|root| fingerprint(&root.cert_pem()).unwrap());
        let mut kept = to_secret(&old);
        assert_eq!(stage(&kept).unwrap(), Stage::Stands);
        for (after, signs, trusted) in [
            (Stage::Prepared(new_print), &old, vec![old_print, new_print]),
            (Stage::Signs(new_print), &new, vec![new_print, old_print]),
            (Stage::Stands, &new, vec![new_print]),
        ] {
            kept = advanced(&kept, &new).unwrap();
            assert_eq!(stage(&kept).unwrap(), after);
            let all = read_all(&kept).unwrap();
            assert_eq!(all.root.key_pem(), signs.key_pem());
            assert_eq!(fingerprints(&all.roots).unwrap(), trusted);
        }
        // The key of the one that has gone is nowhere any more.
        assert_eq!(kept.data.unwrap().len(), 2);
    }

    #[test]
    fn nobody_is_left_behind() {
        let [old, new] = [b"old", b"new"].map(|text| Fingerprint::of(text));
        let both = format!("{old},{new}");
        let members = [
            member("paris", TRUSTED_ROOTS, &both),
            member("berlin", TRUSTED_ROOTS, &old.to_string()),
            Member::new("rome", MemberSpec::default()),
        ];
        assert_eq!(awaited(&Stage::Prepared(new), &members), ["berlin", "rome"]);
        assert_eq!(awaited(&Stage::Stands, &members), Vec::<String>::new());
        let members =
            [member("paris", SIGNED_BY, &new.to_string()), member("rome", SIGNED_BY, "x")];
        assert_eq!(awaited(&Stage::Signs(new), &members), ["rome"]);
    }
}
