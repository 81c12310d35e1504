//! From the bytes of a tag list to its text.

/// What would be legal.
pub(super) const ENCODINGS: &str = "UTF-8, or UTF-16 with a byte-order mark; Excel writes it as \"CSV UTF-8 \
                         (Comma delimited)\", LibreOffice with the character set \"Unicode (UTF-8)\"";

/// Why bytes are no text.
pub(super) struct Bad {
    /// What stands before the first bad byte.
    pub(super) before: String,
    pub(super) message: String,
}

/// The text of a list.
pub(super) fn decode(mut bytes: Vec<u8>) -> Result<String, Bad> {
    match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, ..] => {
            bytes.drain(..3);
            utf8(bytes)
        }
        [0xff, 0xfe, 0, 0, ..] => {
            Err(Bad { before: String::new(), message: "the list is in UTF-32".to_owned() })
        }
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, Bad> {
    /// Where a text in UTF-16 shows itself: no header is in a script without Latin letters.
    const HEADER: usize = 64;
    let head = bytes.get(..HEADER.min(bytes.len())).unwrap_or_default();
    if head.contains(&0) {
        let message = "the list seems to be in UTF-16 without a byte-order mark".to_owned();
        return Err(Bad { before: String::new(), message });
    }
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    let (before, rest) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
    let byte = rest.first().copied().unwrap_or_default();
    let mut message = format!("the byte 0x{byte:02X} is no UTF-8");
    if byte >= 0xa0 {
        // The upper half of Latin-1 is that of the code page that most exports are in.
        message += &format!("; in Windows-1252 it is {:?}", char::from(byte));
    }
    Err(Bad { before: String::from_utf8_lossy(before).into_owned(), message })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Bad> {
    let (units, rest) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len() / 2);
    for item in char::decode_utf16(units.iter().map(|pair| unit(*pair))) {
        match item {
            Ok(c) => text.push(c),
            Err(error) => {
                let half = error.unpaired_surrogate();
                let message = format!("0x{half:04X} is half a character of UTF-16");
                return Err(Bad { before: text, message });
            }
        }
    }
    if !rest.is_empty() {
        let message = "the list ends in the middle of a character of UTF-16".to_owned();
        return Err(Bad { before: text, message });
    }
    Ok(text)
}
