//! Pure: DNS cookies (RFC 7873), made so that all replicas with one secret believe each other's (RFC 9018).
//!
//! A client that shows a cookie of ours has received an answer of ours at its address before: nobody forges its
//! questions, so nothing needs to be held back from it.

use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::config::CookieSecret;

/// What a client chooses (RFC 7873 section 4.1).
pub(crate) type ClientCookie = [u8; 8];
/// Version, three octets of nothing, time, hash (RFC 9018 section 4).
pub(crate) type ServerCookie = [u8; 16];

/// What a COOKIE option with both takes, its code and length included.
pub(crate) const OPTION_OCTETS: usize = 4 + 8 + 16;
/// The only version that there is.
const VERSION: u8 = 1;
/// RFC 9018 section 4.3: "The DNS server SHOULD allow cookies within a 1-hour period in the past".
const OLDEST: i32 = 3_600;
/// And "a 5-minute period into the future to allow operation of low-volume clients and some limited time skew".
const NEWEST: i32 = -300;
/// A cookie that is older is replaced: RFC 9018 section 4.3, "more than half an hour old".
const RENEWED: i32 = 1_800;

/// What the COOKIE option of a query holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Cookie {
    /// A client's and a server's, as long as ours are.
    Both(ClientCookie, ServerCookie),
    /// A client's alone, or with one that cannot be ours.
    Client(ClientCookie),
    /// Something that is no cookie.
    Malformed,
    /// There is no such option.
    #[default]
    None,
}

impl Cookie {
    /// Reads the option's data.
    ///
    /// RFC 7873 section 5.2.2: "If the COOKIE option is too short to contain a Client Cookie, then FORMERR is
    /// generated. If the COOKIE option is longer than that required to hold a COOKIE option with just a Client Cookie
    /// (8 bytes) but is shorter than the minimum required to hold a COOKIE option with both a Client and a Server
    /// Cookie (16 bytes), then FORMERR is generated", and likewise beyond 40 octets.
    pub(crate) fn read(data: &[u8]) -> Self {
        let Some((client, server)) = data.split_first_chunk() else {
            return Self::Malformed;
        };
        match (server.len(), server.try_into()) {
            (_, Ok(server)) => Self::Both(*client, server),
            (0 | 8..=32, Err(_)) => Self::Client(*client),
            (_, Err(_)) => Self::Malformed,
        }
    }
}

/// What a client's cookie is answered with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Baked {
    /// Client and server cookie.
    pub(crate) both: [u8; 24],
    /// Whether the client showed a cookie of ours.
    pub(crate) known: bool,
}

/// Makes and knows server cookies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Jar {
    hasher: SipHasher24,
    /// Whether clients must have one.
    pub(crate) required: bool,
}

impl Jar {
    /// With a secret.
    pub(crate) fn new(secret: &CookieSecret, required: bool) -> Self {
        Self { hasher: SipHasher24::new_with_key(secret.octets()), required }
    }

    /// What to answer the cookie of a client at `source` with, `now` in seconds since 1970; none where it has none.
    pub(crate) fn bake(&self, cookie: Cookie, source: IpAddr, now: u32) -> Option<Baked> {
        let (client, server) = match cookie {
            Cookie::Both(client, server) => (client, Some(server)),
            Cookie::Client(client) => (client, None),
            Cookie::Malformed | Cookie::None => return None,
        };
        let age = server.and_then(|server| self.age(client, server, source, now));
        let kept = server.filter(|_| age.is_some_and(|age| age <= RENEWED));
        let server = kept.unwrap_or_else(|| self.fresh(client, source, now));
        let mut both = [0; 24];
        both[..8].copy_from_slice(&client);
        both[8..].copy_from_slice(&server);
        Some(Baked { both, known: age.is_some() })
    }

    /// How many seconds ago a cookie was made; none where it is not ours, or too old.
    fn age(
        &self,
        client: ClientCookie,
        server: ServerCookie,
        source: IpAddr,
        now: u32,
    ) -> Option<i32> {
        let [version, reserved1, reserved2, reserved3, t1, t2, t3, t4, hash @ ..] = server;
        let head = [version, reserved1, reserved2, reserved3, t1, t2, t3, t4];
        // Times are compared as serial numbers (RFC 1982), as RFC 9018 section 4.3 wants it.
        let age = now.wrapping_sub(u32::from_be_bytes([t1, t2, t3, t4])).cast_signed();
        let ours = version == VERSION && self.hash(client, head, source) == hash;
        (ours && (NEWEST..=OLDEST).contains(&age)).then_some(age)
    }

    fn fresh(&self, client: ClientCookie, source: IpAddr, now: u32) -> ServerCookie {
        let mut head = [VERSION, 0, 0, 0, 0, 0, 0, 0];
        head[4..].copy_from_slice(&now.to_be_bytes());
        let mut server = [0; 16];
        server[..8].copy_from_slice(&head);
        server[8..].copy_from_slice(&self.hash(client, head, source));
        server
    }

    /// RFC 9018 section 4.4: "Hash = SipHash-2-4( Client Cookie | Version | Reserved | Timestamp | Client-IP, Server
    /// Secret )".
    fn hash(&self, client: ClientCookie, head: [u8; 8], source: IpAddr) -> [u8; 8] {
        let mut input = [0; 32];
        input[..8].copy_from_slice(&client);
        input[8..16].copy_from_slice(&head);
        let length = match source {
            IpAddr::V4(address) => {
                input[16..20].copy_from_slice(&address.octets());
                20
            }
            IpAddr::V6(address) => {
                input[16..].copy_from_slice(&address.octets());
                32
            }
        };
        self.hasher.hash(&input[..length]).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets<const N: usize>(hex: &str) -> [u8; N] {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        std::array::from_fn(|at| digit(2 * at))
    }

    fn jar() -> Jar {
        let secret = CookieSecret::parse("e5e973e5a6b2a43f48e7dc849e37bfcf").unwrap();
        Jar::new(&secret, false)
    }

    fn both(hex: &str) -> Cookie {
        Cookie::read(&octets::<24>(hex))
    }

    /// RFC 9018 appendix A.1: "Learning a New Server Cookie".
    #[test]
    fn a_new_client_learns_the_cookie_of_the_specification() {
        let source = "198.51.100.100".parse().unwrap();
        let baked =
            jar().bake(Cookie::read(&octets::<8>("2464c4abcf10c957")), source, 1_559_731_985);
        let expected = octets("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
        assert_eq!(baked, Some(Baked { both: expected, known: false }));
    }

    /// RFC 9018 section 4.3: a cookie is good for an hour, from five minutes before its time on; older than half an
    /// hour it is replaced.
    #[test]
    fn a_cookie_is_known_at_its_address_for_its_time() {
        let made = 1_559_731_985;
        let cookie = both("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
        let at = |source: &str, now| jar().bake(cookie, source.parse().unwrap(), now).unwrap();
        let shown = octets("2464c4abcf10c957010000005cf79f111f8130c3eee29480");
        for (now, known, kept) in [
            (made - 301, false, false),
            (made - 300, true, true),
            (made + 1_800, true, true),
            (made + 1_801, true, false),
            (made + 3_600, true, false),
            (made + 3_601, false, false),
        ] {
            let baked = at("198.51.100.100", now);
            assert_eq!((baked.known, baked.both == shown), (known, kept), "{now}");
        }
        assert!(!at("198.51.100.101", made).known, "another's cookie");
        assert!(!at("2001:db8::1", made).known);
        let other = Jar::new(&CookieSecret::new([7; 16]), false);
        assert!(!other.bake(cookie, "198.51.100.100".parse().unwrap(), made).unwrap().known);
    }

    /// RFC 9018 appendix A.3: a cookie whose reserved octets are not zero is good all the same.
    #[test]
    fn reserved_octets_count_as_they_come() {
        let source = "203.0.113.203".parse().unwrap();
        let cookie = both("fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5");
        assert!(jar().bake(cookie, source, 1_559_728_000).unwrap().known);
        let v6 = "2001:db8:220:1:59de:d0f4:8769:82b8".parse().unwrap();
        let made = jar().bake(Cookie::Client([1; 8]), v6, 1_559_741_961).unwrap();
        let Cookie::Both(client, server) = Cookie::read(&made.both) else { panic!("not both") };
        assert!(jar().bake(Cookie::Both(client, server), v6, 1_559_741_962).unwrap().known);
    }

    /// RFC 7873 section 5.2.2, on lengths.
    #[test]
    fn lengths_that_no_cookie_has_are_malformed() {
        for (length, malformed) in [
            (0, true),
            (7, true),
            (8, false),
            (9, true),
            (15, true),
            (16, false),
            (24, false),
            (40, false),
            (41, true),
        ] {
            let cookie = Cookie::read(&vec![0; length]);
            assert_eq!(cookie == Cookie::Malformed, malformed, "{length}");
        }
    }
}
