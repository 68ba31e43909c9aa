//! Pure: the header of a stream that goes to what the hub gives its members.

use super::{
    VERSION_HUB, WireError,
    bytes::{Reader, Writer},
};

/// What the second kind of stream is for.
pub(super) const KIND_HUB: u8 = 2;

/// What the hub gives. Each is one address of the hub's cluster, and no member can name another.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum HubService {
    /// Its Kubernetes API.
    Api,
    /// The set's authority.
    Authority,
}

impl HubService {
    /// One word for metrics and logs.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Authority => "authority",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Api => 1,
            Self::Authority => 2,
        }
    }
}

/// Writes such a header with its prefix.
#[must_use]
pub(crate) fn encode_hub(service: HubService) -> Vec<u8> {
    let mut body = Writer::default();
    body.u8(KIND_HUB);
    body.u8(service.code());
    let mut whole = Writer::default();
    whole.u8(VERSION_HUB);
    whole.counted(&body.finish());
    whole.finish()
}

/// Reads one without its prefix.
pub(super) fn decode_hub(bytes: &[u8]) -> Result<HubService, WireError> {
    let mut body = Reader::new(bytes);
    if body.u8("kind")? != KIND_HUB {
        return Err(WireError::Field { field: "kind" });
    }
    match body.u8("target")? {
        1 => Ok(HubService::Api),
        2 => Ok(HubService::Authority),
        _ => Err(WireError::Field { field: "target" }),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    #[test]
    fn what_is_wanted_of_the_hub_is_written_and_read_again() {
        for (service, bytes) in
            [(HubService::Api, [3, 0, 2, 2, 1]), (HubService::Authority, [3, 0, 2, 2, 2])]
        {
            assert_eq!(encode_hub(service), bytes);
            assert_eq!(decode_request(3, &bytes[3..]), Ok(Request::Hub(service)));
            let later = [&bytes[3..], b"what a later version adds"].concat();
            assert_eq!(decode_request(3, &later), Ok(Request::Hub(service)));
        }
        let wrong = |field| Err(WireError::Field { field });
        assert_eq!(decode_request(3, &[2, 3]), wrong("target"));
        assert_eq!(decode_request(3, &[2]), Err(WireError::Truncated { field: "target" }));
        assert_eq!(decode_request(3, &[3, 1]), wrong("kind"));
        assert_eq!(decode_request(1, &[2, 1]), wrong("kind"), "older versions know one kind");
    }
}
