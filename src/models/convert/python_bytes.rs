//! A Python source that holds a file as one bytes literal (`NAME = b'…'`).

use super::ConvertError;

/// The bytes of the first `b'…'` or `b"…"` literal.
pub(super) fn literal(source: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let fail = |text: &str| ConvertError(format!("{text} in the Python bytes literal"));
    let start =
        source.windows(2).position(|w| w == b"b'" || w == b"b\"").ok_or_else(|| fail("no b'…' was found: nothing"))?;
    let quote = source[start + 1];
    let mut out = Vec::with_capacity(source.len() / 2);
    let mut bytes = source[start + 2..].iter().copied();
    let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).ok_or_else(|| fail("a broken \\x escape"));
    while let Some(byte) = bytes.next() {
        match byte {
            b if b == quote => return Ok(out),
            b'\\' => match bytes.next() {
                Some(b'x') => {
                    let (high, low) = (hex(bytes.next())?, hex(bytes.next())?);
                    out.push((high * 16 + low) as u8);
                }
                Some(b'n') => out.push(b'\n'),
                Some(b'r') => out.push(b'\r'),
                Some(b't') => out.push(b'\t'),
                Some(b'0') => out.push(0),
                Some(b @ (b'\\' | b'\'' | b'"')) => out.push(b),
                _ => return Err(fail("an unknown escape")),
            },
            b => out.push(b),
        }
    }
    Err(fail("no end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_escapes_and_refuses_broken_ones() {
        assert_eq!(literal(br#"# c\nW = b'\x08a\\\n\'"\xff' + 1"#).unwrap(), b"\x08a\\\n'\"\xff");
        assert_eq!(literal(br#"W = b"it's""#).unwrap(), b"it's");
        for bad in [&br"W = b'\xzz'"[..], b"W = b'abc", b"W = 1", br"b'\x1"] {
            assert!(literal(bad).is_err());
        }
    }
}
