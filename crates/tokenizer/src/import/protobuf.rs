//! Reads the part of the protocol buffer wire format that SentencePiece uses.
//!
//! A message is a list of fields, each a number and a value. Nothing is copied or allocated, so a hostile file takes no more
//! memory than its bytes.

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    /// A whole number, a boolean or an enum.
    Varint(u64),
    /// A number of eight bytes; unused by SentencePiece.
    Fixed64,
    /// A string, bytes, a message, or a packed list.
    Bytes(&'a [u8]),
    /// A number of four bytes, as `float` is.
    Fixed32(u32),
}

impl<'a> Field<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], String> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(format!("expected bytes, got {other:?}")),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8".to_owned())
    }

    pub(super) fn float(self) -> Result<f32, String> {
        match self {
            Self::Fixed32(bits) => Ok(f32::from_bits(bits)),
            other => Err(format!("expected a float, got {other:?}")),
        }
    }

    pub(super) fn varint(self) -> Result<u64, String> {
        match self {
            Self::Varint(number) => Ok(number),
            other => Err(format!("expected a whole number, got {other:?}")),
        }
    }

    pub(super) fn boolean(self) -> Result<bool, String> {
        Ok(self.varint()? != 0)
    }
}

/// The fields of a message in the order of the file, each with its number.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Result<(u64, Field<'a>), String> {
        let key = self.read_varint()?;
        let value = match key & 7 {
            0 => Field::Varint(self.read_varint()?),
            1 => {
                self.take(8)?;
                Field::Fixed64
            }
            2 => {
                let length = self.read_varint()?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                let bytes = self.take(4)?;
                Field::Fixed32(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            }
            other => return Err(format!("a field of the unknown kind {other}")),
        };
        Ok((key >> 3, value))
    }

    fn read_varint(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or("it ends inside a number")?;
            self.rest = rest;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number of more than ten bytes".to_owned())
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], String> {
        let cut = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) =
            cut.ok_or_else(|| format!("a field claims {length} bytes, and {} follow", self.rest.len()))?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            // After a damaged field the rest cannot be parsed.
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_with_their_numbers() {
        let message = [
            0x0A, 2, b'h', b'i', 0x15, 0, 0, 0x80, 0x3F, 0x18, 0xAC, 0x02, 0x21, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let fields: Result<Vec<_>, _> = Fields::new(&message).collect();
        let fields = fields.unwrap();
        assert_eq!(fields[0], (1, Field::Bytes(b"hi")));
        assert_eq!(fields[1].1.float(), Ok(1.0));
        assert_eq!(fields[2], (3, Field::Varint(300)));
        assert_eq!(fields[3], (4, Field::Fixed64));
    }

    #[test]
    fn damaged_messages_are_errors_and_end() {
        for message in [
            &[0x0A][..],
            &[0x0A, 200, 1],
            &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            &[0x80; 11],
            &[0x0B],
            &[0x15, 1],
            &[0x18],
        ] {
            let mut fields = Fields::new(message);
            assert!(fields.next().unwrap().is_err(), "{message:?}");
            assert!(fields.next().is_none());
        }
    }
}
