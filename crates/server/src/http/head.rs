//! The head of a request.

use crate::failure::{Refusal, Status};

/// Fields of a head.
const MAX_FIELDS: usize = 64;

/// Bytes of an address.
const MAX_TARGET: usize = 4096;

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    /// None that this server has.
    Other,
}

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// As it was sent.
    pub(crate) method_name: String,
    /// Without the query.
    pub(crate) path: String,
    /// Names in lower case.
    fields: Vec<(String, Vec<u8>)>,
    /// Whether the client speaks HTTP/1.1.
    pub(crate) is_new: bool,
    /// Whether another request may follow.
    pub(crate) keeps_alive: bool,
    pub(crate) length: Length,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Known(u64),
    /// It comes in chunks.
    Chunked,
}

pub(super) fn too_large() -> Refusal {
    Refusal::status(Status::HeadTooLarge, "the head of the request is too large")
}

impl Head {
    /// The head at the beginning of some bytes, and its length; `None` where it is not complete.
    pub(super) fn parsed(bytes: &[u8]) -> Result<Option<(Self, usize)>, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(too_large()),
            Err(error) => return Err(Refusal::bad(format!("not an HTTP request: {error}"))),
        };
        let target = request.path.unwrap_or_default();
        if target.len() > MAX_TARGET {
            return Err(Refusal::status(Status::AddressTooLong, "the address is too long"));
        }
        let fields: Vec<(String, Vec<u8>)> = request
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
            .collect();
        let method_name = request.method.unwrap_or_default().to_owned();
        let is_new = request.version == Some(1);
        let mut head = Self {
            method: match method_name.as_str() {
                "GET" => Method::Get,
                "HEAD" => Method::Head,
                "POST" => Method::Post,
                _ => Method::Other,
            },
            method_name,
            path: target.split('?').next().unwrap_or_default().to_owned(),
            fields,
            is_new,
            keeps_alive: is_new,
            length: Length::Known(0),
        };
        head.length = head.body_length()?;
        let connection = head.text("connection").unwrap_or_default().to_ascii_lowercase();
        head.keeps_alive &= !connection.split(',').any(|option| option.trim() == "close");
        Ok(Some((head, length)))
    }

    /// The value of a field that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(found, _)| found == name);
        field.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(found, _)| found == name)
    }

    /// A body has one length; a proxy could otherwise read another request than this server.
    fn body_length(&self) -> Result<Length, Refusal> {
        let all = |name: &'static str| self.fields.iter().filter(move |(found, _)| found == name);
        let lengths: Vec<&[u8]> = all("content-length").map(|(_, value)| value.as_slice()).collect();
        let codings: Vec<&[u8]> = all("transfer-encoding").map(|(_, value)| value.as_slice()).collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(Length::Known(0)),
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Length::Chunked),
            ([length], []) => {
                let digits = std::str::from_utf8(length)
                    .ok()
                    .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let length = digits.and_then(|digits| digits.parse().ok());
                length
                    .map(Length::Known)
                    .ok_or_else(|| Refusal::bad("the Content-Length is not a number"))
            }
            _ => Err(Refusal::bad("the length of the body is not clear")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<(Head, usize)>, Refusal> {
        Head::parsed(text.as_bytes())
    }

    #[test]
    fn a_head_is_complete_or_not_and_its_fields_have_any_case() {
        let text = "POST /a/b?c=d HTTP/1.1\r\nHOST: x\r\nContent-LENGTH: 12\r\nConnection: Keep-Alive, Close\r\n\r\n";
        for cut in 0..text.len() {
            assert!(parsed(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let (head, length) = parsed(&format!("{text}rest")).unwrap().unwrap();
        assert_eq!(
            (length, head.method, head.path.as_str()),
            (text.len(), Method::Post, "/a/b")
        );
        assert_eq!((head.text("host"), head.length), (Some("x"), Length::Known(12)));
        assert!(!head.keeps_alive && head.has("connection") && !head.has("expect"));
        let (old, _) = parsed("GET / HTTP/1.0\r\n\r\n").unwrap().unwrap();
        assert!(!old.keeps_alive && old.length == Length::Known(0));
        let (new, _) = parsed("DELETE / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap()
            .unwrap();
        assert!(new.keeps_alive && new.method == Method::Other && new.length == Length::Chunked);
    }

    #[test]
    fn a_body_without_one_clear_length_is_refused() {
        for fields in [
            "Content-Length: 1\r\nContent-Length: 2\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 1, 1\r\n",
        ] {
            assert!(parsed(&format!("POST / HTTP/1.1\r\n{fields}\r\n")).is_err(), "{fields}");
        }
    }
}
