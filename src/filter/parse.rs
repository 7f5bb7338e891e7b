//! From tokens to conditions, by recursive descent.
//!
//! ```text
//! any       = all ("or" all)*
//! all       = unary ("and" unary)*
//! unary     = "not" unary | "(" any ")" | operand (op operand | "not"? "in" list)
//! operand   = path | literal
//! list      = "[" (literal ("," literal)* ","?)? "]"
//! ```
//!
//! Chains of `and` and `or` are flat, so that only `not` and parentheses nest; their depth
//! bounds the recursion here and in the evaluation.

use super::expr::{Expr, Op, Operand};
use super::lex::{Lexer, Mistake, Token, keyword};
use super::path::{self, Path};
use super::value::{Literal, Set};
use crate::error::{Error, Kind, Result, did_you_mean};
use crate::event::Priority;

/// The longest expression, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// How deep `not` and parentheses may nest.
pub const MAX_NESTING: usize = 32;
/// The most literals in one list.
pub const MAX_LIST: usize = 1000;

pub(super) fn parse(text: &str) -> Result<Expr> {
    parse_text(text).map_err(|mistake| complain(text, &mistake))
}

/// The condition of the dict form: what stands at `path` equals `value`.
pub(super) fn equality(path: &str, value: Literal) -> Result<Expr> {
    let left = Operand::Path(Path::parse(path)?);
    let refuse = |why: String| {
        Error::new(Kind::Configuration, "build filter", format!("filter on {path:?}: {why}"))
            .with("path", path)
    };
    if matches!(value, Literal::Number(number) if !number.is_finite()) {
        return Err(refuse("no event holds a number that is not finite".into()));
    }
    check_priority(&left, &value, 0).map_err(|mistake| {
        let hint = mistake.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        refuse(format!("{}{hint}", mistake.what))
    })?;
    Ok(Expr::Compare(left, Op::Eq, Operand::Literal(value)))
}

fn parse_text(text: &str) -> Result<Expr, Mistake> {
    if text.len() > MAX_LENGTH {
        let at = (0..=MAX_LENGTH).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let what = format!("it has {} bytes, and {MAX_LENGTH} are the most", text.len());
        return Err(Mistake::new(at, what));
    }
    let mut lexer = Lexer::new(text);
    let (token, at) = lexer.next()?;
    if token == Token::End {
        return Err(Mistake::new(at, "it is empty").hint("to take every event, give no filter"));
    }
    let mut parser = Parser { lexer, token, at, depth: 0 };
    let expr = parser.any()?;
    match parser.token {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected_after_condition()),
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    /// The token that comes next, and where it begins.
    token: Token,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<(), Mistake> {
        (self.token, self.at) = self.lexer.next()?;
        Ok(())
    }

    fn any(&mut self) -> Result<Expr, Mistake> {
        let mut conditions = vec![self.all()?];
        while self.token == Token::Or {
            self.advance()?;
            conditions.push(self.all()?);
        }
        Ok(one_or(conditions, Expr::Any))
    }

    fn all(&mut self) -> Result<Expr, Mistake> {
        let mut conditions = vec![self.unary()?];
        while self.token == Token::And {
            self.advance()?;
            conditions.push(self.unary()?);
        }
        Ok(one_or(conditions, Expr::All))
    }

    fn unary(&mut self) -> Result<Expr, Mistake> {
        match self.token {
            Token::Not => {
                self.deeper()?;
                let inner = self.unary()?;
                self.depth -= 1;
                Ok(Expr::Not(Box::new(inner)))
            }
            Token::Open => {
                let opened = self.at;
                self.deeper()?;
                let inner = self.any()?;
                self.depth -= 1;
                match self.token {
                    Token::Close => {
                        self.advance()?;
                        Ok(inner)
                    }
                    Token::End => Err(Mistake::new(opened, "this parenthesis is never closed")),
                    _ => Err(self.unexpected_after_condition()),
                }
            }
            _ => self.comparison(),
        }
    }

    fn deeper(&mut self) -> Result<(), Mistake> {
        if self.depth == MAX_NESTING {
            let what = format!("`not` and parentheses nest more than {MAX_NESTING} deep");
            return Err(Mistake::new(self.at, what));
        }
        self.depth += 1;
        self.advance()
    }

    fn comparison(&mut self) -> Result<Expr, Mistake> {
        let begin = self.at;
        let left = self.operand(Side::Left)?;
        match self.token {
            Token::Op(op) => {
                self.advance()?;
                let at = self.at;
                let right = self.operand(Side::Right)?;
                for (path, other, at) in [(&left, &right, at), (&right, &left, begin)] {
                    if let Operand::Literal(literal) = other {
                        check_priority(path, literal, at)?;
                    }
                }
                if matches!(self.token, Token::Op(_) | Token::In) {
                    return Err(Mistake::new(self.at, "comparisons do not chain")
                        .hint("join two of them with `and`"));
                }
                Ok(Expr::Compare(left, op, right))
            }
            Token::In => {
                self.advance()?;
                self.list(left)
            }
            Token::Not => {
                self.advance()?;
                if self.token != Token::In {
                    let what =
                        format!("expected `in` after `not`, found {}", self.token.describe());
                    return Err(Mistake::new(self.at, what));
                }
                self.advance()?;
                Ok(Expr::Not(Box::new(self.list(left)?)))
            }
            _ => Err(self.no_operator(begin, &left)),
        }
    }

    fn operand(&mut self, side: Side) -> Result<Operand, Mistake> {
        match &self.token {
            Token::Path(segments) => {
                let Some(path) = Path::from_segments(segments) else {
                    return Err(self.lost(segments, side));
                };
                self.advance()?;
                Ok(Operand::Path(path))
            }
            Token::Literal(literal) => {
                let literal = literal.clone();
                self.advance()?;
                Ok(Operand::Literal(literal))
            }
            Token::OpenList => Err(Mistake::new(self.at, "a list cannot be compared")
                .hint("lists follow `in`: `payload.symbol in [..]`")),
            Token::Open if side == Side::Right => {
                Err(Mistake::new(self.at, "parentheses go around conditions, not around values"))
            }
            other => {
                let what = format!("expected a path or a value, found {}", other.describe());
                Err(Mistake::new(self.at, what))
            }
        }
    }

    fn list(&mut self, operand: Operand) -> Result<Expr, Mistake> {
        let opened = self.at;
        if self.token != Token::OpenList {
            let what = format!("expected a list after `in`, found {}", self.token.describe());
            return Err(Mistake::new(self.at, what).hint("a list is written `[\"a\", \"b\"]`"));
        }
        self.advance()?;
        let mut items = Vec::new();
        while self.token != Token::CloseList {
            if items.len() == MAX_LIST {
                let what = format!("a list holds at most {MAX_LIST} values");
                return Err(Mistake::new(self.at, what));
            }
            items.push(self.item(&operand, opened)?);
            match self.token {
                Token::Comma => self.advance()?,
                Token::CloseList => {}
                Token::End => return Err(Mistake::new(opened, "this list is never closed")),
                _ => {
                    let what = format!("expected `,` or `]`, found {}", self.token.describe());
                    return Err(Mistake::new(self.at, what));
                }
            }
        }
        self.advance()?;
        Ok(Expr::In(operand, Set::new(items)))
    }

    fn item(&mut self, operand: &Operand, opened: usize) -> Result<Literal, Mistake> {
        match &self.token {
            Token::Literal(literal) => {
                let literal = literal.clone();
                check_priority(operand, &literal, self.at)?;
                self.advance()?;
                Ok(literal)
            }
            Token::End => Err(Mistake::new(opened, "this list is never closed")),
            other => {
                let what = format!("a list holds values only, found {}", other.describe());
                let mistake = Mistake::new(self.at, what);
                Err(match other {
                    Token::Path(segments) => mistake.hint(quote(segments)),
                    _ => mistake,
                })
            }
        }
    }

    fn lost(&self, segments: &[String], side: Side) -> Mistake {
        let shown = path::show(segments);
        let mistake = Mistake::new(self.at, format!("`{shown}` leads nowhere; {}", path::CHOICES));
        if let Some((wrong, right)) = misspelt(segments) {
            return Mistake::new(self.at, format!("there is no `{wrong}`")).hint(right);
        }
        let hint = path::suggestion(segments).or_else(|| match side {
            Side::Left => path::in_payload(segments),
            Side::Right => Some(quote(segments)),
        });
        Mistake { hint, ..mistake }
    }

    fn no_operator(&self, begin: usize, left: &Operand) -> Mistake {
        match &self.token {
            Token::Path(segments) => match misspelt(segments) {
                Some((wrong, right)) => {
                    Mistake::new(self.at, format!("there is no `{wrong}`")).hint(right)
                }
                None => Mistake::new(
                    self.at,
                    format!("expected a comparison or `in`, found {}", self.token.describe()),
                ),
            },
            Token::OpenList => Mistake::new(self.at, "paths lead through maps, not into lists"),
            Token::And | Token::Or | Token::Close | Token::End => {
                let mistake = Mistake::new(begin, "a value alone is no condition");
                match left {
                    Operand::Path(_) => mistake.hint("compare it, for instance with `== true`"),
                    Operand::Literal(_) => mistake.hint("compare it with a path"),
                }
            }
            other => Mistake::new(
                self.at,
                format!("expected a comparison or `in`, found {}", other.describe()),
            ),
        }
    }

    fn unexpected_after_condition(&self) -> Mistake {
        if self.token == Token::Close {
            return Mistake::new(self.at, "this parenthesis was never opened");
        }
        if let Token::Path(segments) = &self.token
            && let Some((wrong, right)) = misspelt(segments)
        {
            return Mistake::new(self.at, format!("there is no `{wrong}`")).hint(right);
        }
        let found = self.token.describe();
        Mistake::new(self.at, format!("expected `and`, `or` or the end, found {found}"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

fn one_or(mut conditions: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match (conditions.pop(), conditions.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            conditions.extend(last);
            join(conditions)
        }
    }
}

/// What somebody wrote who thinks of another language.
fn misspelt(segments: &[String]) -> Option<(&str, String)> {
    let [word] = segments else { return None };
    let lower = word.to_lowercase();
    let hint = match lower.as_str() {
        "is" => "use `==`, or `!=` for `is not`".to_owned(),
        "like" | "matches" | "contains" | "startswith" | "endswith" => {
            "list the values with `in [..]`".to_owned()
        }
        // A keyword in other letters: `AND`, `TRUE`.
        _ if keyword(&lower).is_some() && keyword(word).is_none() => format!("use `{lower}`"),
        "none" => "use `null`".to_owned(),
        _ => return None,
    };
    Some((word, hint))
}

fn quote(segments: &[String]) -> String {
    format!("text stands in quotes: `{:?}`", segments.join("."))
}

/// A priority that does not exist would never match, and silently so.
fn check_priority(path: &Operand, literal: &Literal, at: usize) -> Result<(), Mistake> {
    let (Operand::Path(path), Literal::Str(name)) = (path, literal) else {
        return Ok(());
    };
    if !path.is_priority() || Priority::parse(name).is_some() {
        return Ok(());
    }
    let mistake =
        Mistake::new(at, format!("{name:?} is no priority; they are low, normal, high, critical"));
    let near = did_you_mean(&name.to_lowercase(), Priority::BY_URGENCY.map(Priority::as_str));
    Err(match near {
        Some(near) => mistake.hint(format!("did you mean `{near}`?")),
        None => mistake,
    })
}

/// How much of a long line is shown before and after the mistake, in characters.
const AROUND: usize = 40;

/// The error for people: what and where, the line, and a caret under the mistake.
fn complain(text: &str, mistake: &Mistake) -> Error {
    let (before, after) = text.split_at(mistake.at);
    let number = before.matches('\n').count() + 1;
    let line_begin = before.rfind('\n').map_or(0, |newline| newline + 1);
    let before = &before[line_begin..];
    let after = after.split('\n').next().unwrap_or_default();
    let column = before.chars().count();
    let place = if text.contains('\n') {
        format!("line {number}, column {}", column + 1)
    } else {
        format!("column {}", column + 1)
    };

    // One column per character, so that the caret stands where it should.
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut line = String::new();
    let skipped = column.saturating_sub(AROUND);
    if skipped > 0 {
        line.push('…');
    }
    let indent = column - skipped + usize::from(skipped > 0);
    line.extend(before.chars().skip(skipped).map(printable));
    line.extend(after.chars().take(AROUND).map(printable));
    if after.chars().nth(AROUND).is_some() {
        line.push('…');
    }
    let hint = mistake.hint.as_ref().map(|hint| format!(" {hint}")).unwrap_or_default();
    let message = format!(
        "cannot read the filter at {place}: {}\n    {}\n    {:indent$}^{hint}",
        mistake.what,
        line.trim_end(),
        "",
    );
    let error = Error::new(Kind::Configuration, "read filter", message)
        .with("position", mistake.at.to_string());
    match &mistake.hint {
        Some(hint) => error.with("suggestion", hint.clone()),
        None => error,
    }
}
