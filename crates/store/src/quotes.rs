//! Quotes of CSV: fields that begin with one and do not end with one.

/// What is wrong with the quotes of a row of CSV (RFC 4180), where something is: readers take in the rows after a field whose quote is not
/// closed, up to the next quote. A quote within a field that does not begin with one is text.
///
/// ```
/// assert_eq!(taal_store::misquoted(b"\"a, b\",\"she said \"\"no\"\"\"\n", b','), None);
/// assert!(taal_store::misquoted(b"\"a, b\n", b',').is_some());
/// ```
pub fn misquoted(row: &[u8], delimiter: u8) -> Option<&'static str> {
    #[derive(Clone, Copy)]
    enum At {
        Start,
        Plain,
        Quoted,
        Closed,
    }
    let mut at = At::Start;
    for byte in row {
        let is_end = *byte == delimiter || matches!(byte, b'\n' | b'\r');
        at = match (at, byte) {
            (At::Quoted, b'"') => At::Closed,
            (At::Start | At::Closed, b'"') | (At::Quoted, _) => At::Quoted,
            (At::Start | At::Plain | At::Closed, _) if is_end => At::Start,
            (At::Start | At::Plain, _) => At::Plain,
            (At::Closed, _) => {
                return Some(
                    "text follows a quote that closes a field: in a field in quotes write each quote twice, or a quote \
                     that is not closed takes in the rows after it; in a .tsv file quotes are text",
                );
            }
        };
    }
    matches!(at, At::Quoted).then_some(
        "a field begins with a quote that is not closed, which takes in the rows after it: put quotes around the field and \
         write each quote in it twice; in a .tsv file quotes are text",
    )
}
