//! Patterns of ignore files, read and matched as git does. Pure.
//!
//! Written against git's documentation (gitignore(5)) and held against git itself by `tests/source_oracle.rs`. It works on
//! bytes, as git does: names need not be UTF-8, and `?` stands for one byte.

/// The patterns of one ignore file, in its order.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    ignore_case: bool,
}

/// One line of an ignore file.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// The line, counted from 1.
    pub line: usize,
    /// The pattern as written, without spaces at its end.
    pub text: String,
    /// It begins with `!`.
    pub takes_back: bool,
    directories_only: bool,
    /// There is no `/` in it, so it is compared with names, not with paths.
    names: bool,
    /// Nothing for a pattern that can't match anything, such as one with an unfinished `[`.
    glob: Option<Glob>,
}

#[derive(Debug, Clone)]
struct Glob {
    /// What a path must begin with, in a pattern for paths. Compared apart, since git then reads the rest as a pattern of
    /// its own: `a**/b` matches `ab`.
    prefix: Vec<u8>,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone)]
enum Token {
    /// This byte; where case doesn't count, in both cases.
    Byte(u8),
    /// A byte after a backslash, which git never compares without case.
    Escaped(u8),
    /// `?`: any byte but `/`.
    One,
    /// `[…]`.
    Class { negated: bool, members: Vec<Member> },
    /// `*`: any bytes but `/`.
    Star,
    /// `**` as a whole part: any bytes.
    Everything,
    /// `**/`: any folders, or none.
    Folders,
}

#[derive(Debug, Clone)]
enum Member {
    Range(u8, u8),
    Single(u8),
    Named(fn(&u8) -> bool),
    Upper,
}

impl Patterns {
    /// Reads an ignore file. What git can't understand it passes over, and so do we.
    pub fn parse(content: &[u8], ignore_case: bool) -> Self {
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        let lines = content.split(|byte| *byte == b'\n').enumerate();
        let patterns = lines.filter_map(|(at, line)| Pattern::parse(at + 1, line)).collect();
        Self { patterns, ignore_case }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The last pattern that matches a path below the folder of the ignore file. The path has no `/` at its ends.
    pub fn find(&self, path: &[u8], is_directory: bool) -> Option<&Pattern> {
        self.patterns.iter().rev().find(|pattern| pattern.matches(path, is_directory, self.ignore_case))
    }
}

impl Pattern {
    fn parse(line: usize, content: &[u8]) -> Option<Self> {
        if content.is_empty() || content[0] == b'#' {
            return None;
        }
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        // git's lines are C strings.
        let content = content.split(|byte| *byte == 0).next().unwrap_or_default();
        let content = without_spaces_at_the_end(content);
        if content.is_empty() {
            return None;
        }
        let (takes_back, pattern) = match content.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, content),
        };
        let (directories_only, pattern) = match pattern.strip_suffix(b"/") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let names = !pattern.contains(&b'/');
        let text = String::from_utf8_lossy(content).into_owned();
        Some(Self { line, text, takes_back, directories_only, names, glob: Glob::parse(pattern, names) })
    }

    fn matches(&self, path: &[u8], is_directory: bool, ignore_case: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        let text = if self.names { path.rsplit(|byte| *byte == b'/').next().unwrap_or_default() } else { path };
        self.glob.as_ref().is_some_and(|glob| glob.matches(text, ignore_case))
    }

    /// Whether its last part has a letter or digit of a name, where `*` alone takes anything.
    pub fn says_a_name(&self) -> bool {
        let Some(glob) = &self.glob else { return false };
        let tokens = glob.tokens.iter().map(|token| match token {
            Token::Byte(byte) | Token::Escaped(byte) => *byte,
            Token::Folders => b'/',
            _ => b'*',
        });
        let bytes: Vec<u8> = glob.prefix.iter().copied().chain(tokens).collect();
        let last = bytes.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        last.iter().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii())
    }
}

/// Spaces at the end don't count unless a backslash keeps them. Tabs do.
fn without_spaces_at_the_end(line: &[u8]) -> &[u8] {
    let (mut end, mut at) = (0, 0);
    while at < line.len() {
        match line[at] {
            b' ' => at += 1,
            b'\\' if at + 1 == line.len() => return line,
            b'\\' => {
                at += 2;
                end = at;
            }
            _ => {
                at += 1;
                end = at;
            }
        }
    }
    &line[..end]
}

impl Glob {
    fn parse(pattern: &[u8], names: bool) -> Option<Self> {
        if names {
            return Some(Self { prefix: Vec::new(), tokens: tokens(pattern, true)? });
        }
        let pattern = pattern.strip_prefix(b"/").unwrap_or(pattern);
        let plain = pattern.iter().take_while(|byte| !b"*?[\\".contains(byte)).count();
        Some(Self { prefix: pattern[..plain].to_vec(), tokens: tokens(&pattern[plain..], false)? })
    }

    fn matches(&self, text: &[u8], ignore_case: bool) -> bool {
        let Some((start, rest)) = text.split_at_checked(self.prefix.len()) else { return false };
        let begins = if ignore_case { start.eq_ignore_ascii_case(&self.prefix) } else { start == self.prefix };
        begins && matches(&self.tokens, rest, ignore_case)
    }
}

/// `names`: the text has no `/` in it, and all stars are one.
fn tokens(pattern: &[u8], names: bool) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&byte) = pattern.get(at) {
        at += 1;
        match byte {
            b'\\' => {
                found.push(Token::Escaped(*pattern.get(at)?));
                at += 1;
            }
            b'?' => found.push(Token::One),
            b'[' => {
                let (class, after) = class(pattern, at)?;
                found.push(class);
                at = after;
            }
            b'*' => {
                let begins_part = at == 1 || pattern[at - 2] == b'/';
                let stars = 1 + pattern[at..].iter().take_while(|byte| **byte == b'*').count();
                at += stars - 1;
                let rest = &pattern[at..];
                let whole =
                    stars > 1 && begins_part && (rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"\\/"));
                found.push(match whole {
                    _ if names => Token::Everything,
                    true if rest.starts_with(b"/") => {
                        at += 1;
                        Token::Folders
                    }
                    true => Token::Everything,
                    false => Token::Star,
                });
            }
            byte => found.push(Token::Byte(byte)),
        }
    }
    Some(found)
}

/// Reads `[…]` from behind its `[`. Nothing when it has no end, or names a class that there isn't.
fn class(pattern: &[u8], mut at: usize) -> Option<(Token, usize)> {
    let negated = matches!(pattern.get(at)?, b'!' | b'^');
    at += usize::from(negated);
    let begin = at;
    let mut members = Vec::new();
    // What a `-` would make a range from.
    let mut from = None;
    loop {
        let byte = *pattern.get(at)?;
        let next = pattern.get(at + 1).copied();
        match byte {
            b']' if at > begin => return Some((Token::Class { negated, members }, at + 1)),
            b'\\' => {
                at += 1;
                members.push(Member::Single(next?));
                from = next;
            }
            b'-' if from.is_some() && next.is_some_and(|next| next != b']') => {
                at += 1;
                if pattern[at] == b'\\' {
                    at += 1;
                }
                members.push(Member::Range(from?, *pattern.get(at)?));
                from = None;
            }
            b'[' if next == Some(b':') => {
                let name = at + 2;
                let end = name + pattern[name..].iter().position(|byte| *byte == b']')?;
                if end > name && pattern[end - 1] == b':' {
                    members.push(named(&pattern[name..end - 1])?);
                    from = None;
                    at = end;
                } else {
                    members.push(Member::Single(byte));
                    from = Some(byte);
                }
            }
            byte => {
                members.push(Member::Single(byte));
                from = Some(byte);
            }
        }
        at += 1;
    }
}

fn named(name: &[u8]) -> Option<Member> {
    Some(Member::Named(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| (b' '..=b'~').contains(byte),
        b"punct" => u8::is_ascii_punctuation,
        // git's own idea of a space has neither form feed nor vertical tab.
        b"space" => |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'),
        b"upper" => return Some(Member::Upper),
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    }))
}

impl Token {
    /// Whether one byte of text matches a token that stands for one byte.
    fn is(&self, byte: u8, ignore_case: bool) -> bool {
        // git lowers the text, but of the pattern only plain bytes.
        let text = if ignore_case { byte.to_ascii_lowercase() } else { byte };
        let upper = (ignore_case && text.is_ascii_lowercase()).then(|| text.to_ascii_uppercase());
        match self {
            Self::Byte(own) if ignore_case => own.to_ascii_lowercase() == text,
            Self::Byte(own) | Self::Escaped(own) => *own == text,
            Self::One => byte != b'/',
            Self::Class { negated, members } => {
                let is_in = members.iter().any(|member| match member {
                    Member::Single(own) => *own == text,
                    Member::Range(from, to) => {
                        (from..=to).contains(&&text) || upper.is_some_and(|upper| (from..=to).contains(&&upper))
                    }
                    Member::Named(is) => is(&text),
                    Member::Upper => text.is_ascii_uppercase() || upper.is_some(),
                });
                byte != b'/' && is_in != *negated
            }
            Self::Star | Self::Everything | Self::Folders => false,
        }
    }
}

/// Takes as little as possible for each star, and more for the last one when the rest doesn't fit: an earlier one could only
/// take what the last one can, since a `*` never leaves its part of the path. So it takes at most length² steps a star.
fn matches(tokens: &[Token], text: &[u8], ignore_case: bool) -> bool {
    let (mut token, mut at) = (0, 0);
    // The last `*`, and the last token that may pass a `/`: where it stands, and where the text behind it begins.
    let mut star: Option<(usize, usize)> = None;
    let mut wide: Option<(usize, usize)> = None;
    loop {
        match tokens.get(token) {
            None if at == text.len() => return true,
            Some(Token::Star) => {
                star = Some((token, at));
                token += 1;
                continue;
            }
            Some(Token::Everything | Token::Folders) => {
                (wide, star) = (Some((token, at)), None);
                token += 1;
                continue;
            }
            Some(single) if text.get(at).is_some_and(|byte| single.is(*byte, ignore_case)) => {
                token += 1;
                at += 1;
                continue;
            }
            _ => {}
        }
        if let Some((stands, begins)) = star
            && text.get(begins).is_some_and(|byte| *byte != b'/')
        {
            (star, token, at) = (Some((stands, begins + 1)), stands + 1, begins + 1);
            continue;
        }
        let Some((stands, begins)) = wide else { return false };
        let step = match tokens[stands] {
            Token::Folders => text[begins..].iter().position(|byte| *byte == b'/').map(|slash| slash + 1),
            _ => (begins < text.len()).then_some(1),
        };
        let Some(step) = step else { return false };
        (wide, star) = (Some((stands, begins + step)), None);
        (token, at) = (stands + 1, begins + step);
    }
}

#[cfg(test)]
mod tests;
