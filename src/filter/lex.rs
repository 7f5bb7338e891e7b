//! From text to tokens.

use super::expr::Op;
use super::path::is_word;
use super::value::Literal;

/// What is wrong with an expression, where, and what to do about it.
#[derive(Debug)]
pub(super) struct Mistake {
    /// In bytes, on a character's boundary.
    pub at: usize,
    pub what: String,
    pub hint: Option<String>,
}

impl Mistake {
    pub fn new(at: usize, what: impl Into<String>) -> Mistake {
        Mistake { at, what: what.into(), hint: None }
    }

    pub fn hint(self, hint: impl Into<String>) -> Mistake {
        Mistake { hint: Some(hint.into()), ..self }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// One or more segments, the first of which is no keyword if it is the only one.
    Path(Vec<String>),
    Literal(Literal),
    Op(Op),
    And,
    Or,
    Not,
    In,
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
    End,
}

impl Token {
    /// What it is called in messages.
    pub fn describe(&self) -> String {
        match self {
            Token::Path(segments) => format!("`{}`", super::path::show(segments)),
            Token::Literal(Literal::Str(_)) => "text".into(),
            Token::Literal(Literal::Null) => "`null`".into(),
            Token::Literal(Literal::Bool(value)) => format!("`{value}`"),
            Token::Literal(_) => "a number".into(),
            Token::Op(op) => format!("`{}`", op.as_str()),
            Token::And => "`and`".into(),
            Token::Or => "`or`".into(),
            Token::Not => "`not`".into(),
            Token::In => "`in`".into(),
            Token::Open => "`(`".into(),
            Token::Close => "`)`".into(),
            Token::OpenList => "`[`".into(),
            Token::CloseList => "`]`".into(),
            Token::Comma => "`,`".into(),
            Token::End => "the end".into(),
        }
    }
}

/// The word that `word` stands for, if it is one of the language's own.
pub(super) fn keyword(word: &str) -> Option<Token> {
    Some(match word {
        "and" => Token::And,
        "or" => Token::Or,
        "not" => Token::Not,
        "in" => Token::In,
        "true" | "True" => Token::Literal(Literal::Bool(true)),
        "false" | "False" => Token::Literal(Literal::Bool(false)),
        "null" | "None" => Token::Literal(Literal::Null),
        _ => return None,
    })
}

/// Hands out tokens one by one.
#[derive(Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub fn new(text: &'t str) -> Self {
        Lexer { text, at: 0 }
    }

    /// The next token and where it begins.
    pub fn next(&mut self) -> Result<(Token, usize), Mistake> {
        self.take_while(char::is_whitespace);
        let at = self.at;
        let Some(c) = self.peek() else { return Ok((Token::End, at)) };
        let token = match c {
            '"' | '\'' => Token::Literal(Literal::Str(self.quoted(c)?)),
            '0'..='9' | '-' => Token::Literal(self.number()?),
            _ if c.is_alphabetic() || c == '_' => self.word()?,
            _ => self.symbol(c)?,
        };
        Ok((token, at))
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take_while(&mut self, mut wanted: impl FnMut(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn symbol(&mut self, c: char) -> Result<Token, Mistake> {
        const WRONG: [(&str, &str, &str); 12] = [
            ("===", "there is no `===`", "use `==`"),
            ("!==", "there is no `!==`", "use `!=`"),
            ("=>", "there is no `=>`", "use `>=`"),
            ("=<", "there is no `=<`", "use `<=`"),
            ("=~", "there are no patterns", "list the values with `in [..]`"),
            ("<>", "there is no `<>`", "use `!=`"),
            ("&&", "there is no `&&`", "use `and`"),
            ("||", "there is no `||`", "use `or`"),
            ("&", "there is no `&`", "use `and`"),
            ("|", "there is no `|`", "use `or`"),
            ("{", "there are no braces", "a list is written `[..]`"),
            (".", "a path needs a name before the dot", "a number needs a digit there"),
        ];
        const SYMBOLS: [(&str, Token); 11] = [
            ("==", Token::Op(Op::Eq)),
            ("!=", Token::Op(Op::Ne)),
            ("<=", Token::Op(Op::Le)),
            (">=", Token::Op(Op::Ge)),
            ("<", Token::Op(Op::Lt)),
            (">", Token::Op(Op::Gt)),
            ("(", Token::Open),
            (")", Token::Close),
            ("[", Token::OpenList),
            ("]", Token::CloseList),
            (",", Token::Comma),
        ];
        let (at, rest) = (self.at, self.rest());
        if let Some((_, what, hint)) = WRONG.iter().find(|(wrong, ..)| rest.starts_with(wrong)) {
            return Err(Mistake::new(at, *what).hint(*hint));
        }
        if let Some((text, token)) = SYMBOLS.into_iter().find(|(text, _)| rest.starts_with(text)) {
            self.at += text.len();
            return Ok(token);
        }
        Err(match c {
            '=' => Mistake::new(at, "`=` does not compare").hint("use `==`"),
            '!' => Mistake::new(at, "there is no `!`").hint("use `not`"),
            '+' | '*' | '/' | '%' => Mistake::new(at, "there is no arithmetic"),
            _ => Mistake::new(at, format!("{c:?} means nothing here")),
        })
    }

    fn word(&mut self) -> Result<Token, Mistake> {
        let mut segments = vec![self.take_while(is_word).to_owned()];
        while self.peek() == Some('.') {
            self.at += 1;
            segments.push(match self.peek() {
                Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
                _ => self.take_while(is_word).to_owned(),
            });
            if segments.last().is_some_and(String::is_empty) {
                let mistake = Mistake::new(self.at, "a name is missing after the dot");
                return Err(mistake.hint("put a name with special characters in quotes"));
            }
        }
        if let [word] = &segments[..]
            && let Some(token) = keyword(word)
        {
            return Ok(token);
        }
        Ok(Token::Path(segments))
    }

    fn number(&mut self) -> Result<Literal, Mistake> {
        let at = self.at;
        let mut previous = ' ';
        let first = at;
        let mut position = at;
        let text = self.take_while(|c| {
            let sign =
                matches!(c, '-' | '+') && (position == first || matches!(previous, 'e' | 'E'));
            let belongs = sign || c.is_alphanumeric() || matches!(c, '.' | '_');
            previous = c;
            position += c.len_utf8();
            belongs
        });
        let digits = text.strip_prefix('-').unwrap_or(text);
        if !is_number(digits) {
            let mistake = Mistake::new(at, format!("{text:?} is no number"));
            return Err(if digits.is_empty() {
                Mistake::new(at, "a digit is missing after `-`")
            } else if digits.contains('_') && is_number(&digits.replace('_', "")) {
                mistake.hint("leave the underscores out")
            } else {
                mistake.hint("put text in quotes")
            });
        }
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let int = text.parse().map(Literal::Int);
            return int.or_else(|_| text.parse().map(Literal::Uint)).map_err(|_| {
                Mistake::new(at, "the integer is beyond what an event can hold")
                    .hint("integers go from -2**63 to 2**64 - 1; with an exponent it is a float")
            });
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Literal::Number(number)),
            _ => Err(Mistake::new(at, "the number is beyond what an event can hold")),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, Mistake> {
        let begin = self.at;
        self.at += quote.len_utf8();
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.bump() {
                None => {
                    return Err(Mistake::new(begin, "the text has no end")
                        .hint(format!("close it with `{quote}`")));
                }
                Some('\\') => text.push(self.escaped(at)?),
                Some(c) if c == quote => return Ok(text),
                Some(c) => text.push(c),
            }
        }
    }

    fn escaped(&mut self, at: usize) -> Result<char, Mistake> {
        Ok(match self.bump() {
            Some(c @ ('\\' | '/' | '"' | '\'')) => c,
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('u') => {
                let mut code = self.four_digits(at)?;
                // Beyond the basic plane, JSON writes two halves.
                if (0xd800..0xdc00).contains(&code) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    let low = self.four_digits(at)?;
                    if (0xdc00..0xe000).contains(&low) {
                        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    }
                }
                char::from_u32(code)
                    .ok_or_else(|| Mistake::new(at, "half of a surrogate pair is no character"))?
            }
            _ => {
                let mistake = Mistake::new(at, "there is no such escape");
                return Err(mistake.hint("a backslash itself is written twice"));
            }
        })
    }

    fn four_digits(&mut self, at: usize) -> Result<u32, Mistake> {
        let digits = self.rest().get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let code =
            code.ok_or_else(|| Mistake::new(at, "`\\u` is followed by four hexadecimal digits"))?;
        self.at += 4;
        Ok(code)
    }
}

/// Digits, then perhaps a fraction, then perhaps an exponent; Rust's own parser takes more.
fn is_number(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    is_digits(whole)
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(|e| is_digits(e.strip_prefix(['-', '+']).unwrap_or(e)))
}
