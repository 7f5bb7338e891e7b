//! Reading a payload: its values, borrowed from its bytes.

use super::{FALSE, FLOAT, INT, LIST, MAP, NULL, STR, TRUE, UINT};

/// One value of a payload, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node<'a> {
    /// JSON's null.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// An integer above `i64`.
    Uint(u64),
    /// A finite number.
    Float(f64),
    /// Text.
    Str(&'a str),
    /// Values in order.
    List(Items<'a>),
    /// Keys and values, in the order in which they were written.
    Map(Entries<'a>),
}

impl<'a> Node<'a> {
    /// The value under `key`, if this is a map that has it.
    #[inline]
    pub fn get(self, key: &str) -> Option<Node<'a>> {
        match self {
            Node::Map(Entries { count, mut body }) => {
                for _ in 0..count {
                    let length = usize::try_from(read_varint(&mut body)?).ok()?;
                    if take(&mut body, length)? == key.as_bytes() {
                        return Node::read(&mut body);
                    }
                    Node::skip(&mut body)?;
                }
                None
            }
            _ => None,
        }
    }

    /// Steps over one value without looking into it.
    fn skip(bytes: &mut &'a [u8]) -> Option<()> {
        let (&tag, rest) = bytes.split_first()?;
        *bytes = rest;
        let length = match tag {
            NULL | FALSE | TRUE => 0,
            INT | UINT => return read_varint(bytes).map(drop),
            FLOAT => 8,
            STR => usize::try_from(read_varint(bytes)?).ok()?,
            LIST | MAP => return read_container(bytes).map(drop),
            _ => return None,
        };
        take(bytes, length).map(drop)
    }

    pub(super) fn read(bytes: &mut &'a [u8]) -> Option<Node<'a>> {
        let (&tag, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(match tag {
            NULL => Node::Null,
            FALSE => Node::Bool(false),
            TRUE => Node::Bool(true),
            INT => {
                let raw = read_varint(bytes)?;
                Node::Int((raw >> 1) as i64 ^ -((raw & 1) as i64))
            }
            UINT => Node::Uint(read_varint(bytes)?),
            FLOAT => Node::Float(f64::from_le_bytes(take(bytes, 8)?.try_into().ok()?)),
            STR => Node::Str(read_str(bytes)?),
            LIST => {
                let (count, body) = read_container(bytes)?;
                Node::List(Items { count, body })
            }
            MAP => {
                let (count, body) = read_container(bytes)?;
                Node::Map(Entries { count, body })
            }
            _ => return None,
        })
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(head)
}

#[inline]
fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    if let Some((&byte, rest)) = bytes.split_first()
        && byte < 0x80
    {
        *bytes = rest;
        return Some(u64::from(byte));
    }
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn read_str<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(read_varint(bytes)?).ok()?;
    std::str::from_utf8(take(bytes, length)?).ok()
}

fn read_u32(bytes: &mut &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?) as usize)
}

fn read_container<'a>(bytes: &mut &'a [u8]) -> Option<(usize, &'a [u8])> {
    let count = read_u32(bytes)?;
    let length = read_u32(bytes)?;
    Some((count, take(bytes, length)?))
}

/// The items of a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Items<'a> {
    count: usize,
    body: &'a [u8],
}

impl<'a> Iterator for Items<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        self.count = self.count.checked_sub(1)?;
        Node::read(&mut self.body)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.count))
    }
}

impl Items<'_> {
    /// How many are left.
    pub fn count_left(&self) -> usize {
        self.count
    }
}

/// The entries of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entries<'a> {
    count: usize,
    body: &'a [u8],
}

impl<'a> Entries<'a> {
    /// How many are left.
    pub fn count_left(&self) -> usize {
        self.count
    }

    /// The next key, as the UTF-8 that it was written as, and its value: for a reader that knows
    /// the key by its bytes.
    pub fn next_raw(&mut self) -> Option<(&'a [u8], Node<'a>)> {
        self.count = self.count.checked_sub(1)?;
        let length = usize::try_from(read_varint(&mut self.body)?).ok()?;
        Some((take(&mut self.body, length)?, Node::read(&mut self.body)?))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a str, Node<'a>);

    fn next(&mut self) -> Option<(&'a str, Node<'a>)> {
        self.count = self.count.checked_sub(1)?;
        Some((read_str(&mut self.body)?, Node::read(&mut self.body)?))
    }
}
