//! The formats that a gallery takes, and the names that clients give them.

use std::fmt;

use super::Content;

/// Makes [`MediaType`] and its table from one list: variant, what it is, how its content begins, canonical type,
/// file extensions, other types that clients declare.
macro_rules! formats {
    ($($variant:ident, $doc:literal, $content:ident, $canonical:literal, [$($extension:literal)*], [$($alias:literal)*];)*) => {
        /// An image format that a gallery takes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum MediaType {
            $(#[doc = $doc] $variant,)*
        }

        impl MediaType {
            /// Every format, for listing what is accepted.
            pub const ALL: [Self; [$($canonical),*].len()] = [$(Self::$variant),*];

            const fn format(self) -> Format {
                match self {
                    $(Self::$variant => Format {
                        canonical: $canonical,
                        content: Content::$content,
                        extensions: &[$($extension),*],
                        aliases: &[$($alias),*],
                    },)*
                }
            }
        }
    };
}

struct Format {
    canonical: &'static str,
    content: Content,
    extensions: &'static [&'static str],
    aliases: &'static [&'static str],
}

formats! {
    Jpeg, "JPEG.", Jpeg, "image/jpeg", ["jpg" "jpeg" "jpe" "jfif"], ["image/jpg" "image/pjpeg" "image/x-jpeg" "image/x-jpg" "image/jfif" "image/x-citrix-jpeg"];
    Png, "PNG.", Png, "image/png", ["png" "apng"], ["image/x-png" "image/apng" "image/vnd.mozilla.apng" "image/x-citrix-png"];
    Webp, "WebP.", Webp, "image/webp", ["webp"], ["image/x-webp"];
    Heic, "HEIF with HEVC inside, as phones write it.", Heif, "image/heic", ["heic" "hif"], ["image/heic-sequence" "image/x-heic"];
    Heif, "HEIF.", Heif, "image/heif", ["heif"], ["image/heif-sequence" "image/x-heif"];
    Tiff, "TIFF.", TiffOrRaw, "image/tiff", ["tif" "tiff"], ["image/tif" "image/x-tiff" "image/x-tif"];
    Cr2, "Canon RAW, version 2.", TiffOrRaw, "image/x-canon-cr2", ["cr2"], ["image/cr2" "image/x-cr2"];
    Cr3, "Canon RAW, version 3.", TiffOrRaw, "image/x-canon-cr3", ["cr3"], ["image/cr3" "image/x-cr3"];
    Crw, "Canon RAW, version 1.", TiffOrRaw, "image/x-canon-crw", ["crw"], ["image/crw" "image/x-crw"];
    Nef, "Nikon RAW.", TiffOrRaw, "image/x-nikon-nef", ["nef"], ["image/nef" "image/x-nef"];
    Nrw, "Nikon RAW of compact cameras.", TiffOrRaw, "image/x-nikon-nrw", ["nrw"], ["image/nrw" "image/x-nrw"];
    Arw, "Sony RAW.", TiffOrRaw, "image/x-sony-arw", ["arw"], ["image/arw" "image/x-arw"];
    Sr2, "Sony RAW, version 2.", TiffOrRaw, "image/x-sony-sr2", ["sr2"], ["image/sr2" "image/x-sr2"];
    Srf, "Sony RAW, version 1.", TiffOrRaw, "image/x-sony-srf", ["srf"], ["image/srf" "image/x-srf"];
    Dng, "Adobe Digital Negative.", TiffOrRaw, "image/x-adobe-dng", ["dng"], ["image/dng" "image/x-dng" "image/vnd.adobe.dng"];
    Raf, "Fujifilm RAW.", TiffOrRaw, "image/x-fuji-raf", ["raf"], ["image/raf" "image/x-raf" "image/x-fujifilm-raf"];
    Rw2, "Panasonic RAW.", TiffOrRaw, "image/x-panasonic-rw2", ["rw2"], ["image/rw2" "image/x-rw2"];
    Orf, "Olympus RAW.", TiffOrRaw, "image/x-olympus-orf", ["orf"], ["image/orf" "image/x-orf"];
    Srw, "Samsung RAW.", TiffOrRaw, "image/x-samsung-srw", ["srw"], ["image/srw" "image/x-srw"];
    Pef, "Pentax RAW.", TiffOrRaw, "image/x-pentax-pef", ["pef"], ["image/pef" "image/x-pef"];
    Rwl, "Leica RAW.", TiffOrRaw, "image/x-leica-rwl", ["rwl"], ["image/rwl" "image/x-rwl"];
    Hasselblad3fr, "Hasselblad RAW, from the camera.", TiffOrRaw, "image/x-hasselblad-3fr", ["3fr"], ["image/3fr" "image/x-3fr"];
    HasselbladFff, "Hasselblad RAW, imported.", TiffOrRaw, "image/x-hasselblad-fff", ["fff"], ["image/fff" "image/x-fff"];
    Iiq, "Phase One RAW.", TiffOrRaw, "image/x-phaseone-iiq", ["iiq"], ["image/iiq" "image/x-iiq"];
    X3f, "Sigma RAW.", TiffOrRaw, "image/x-sigma-x3f", ["x3f"], ["image/x3f" "image/x-x3f"];
    Mos, "Leaf RAW.", TiffOrRaw, "image/x-leaf-mos", ["mos"], ["image/mos" "image/x-mos"];
    Mef, "Mamiya RAW.", TiffOrRaw, "image/x-mamiya-mef", ["mef"], ["image/mef" "image/x-mef"];
    Mrw, "Minolta RAW.", TiffOrRaw, "image/x-minolta-mrw", ["mrw"], ["image/mrw" "image/x-mrw"];
    Erf, "Epson RAW.", TiffOrRaw, "image/x-epson-erf", ["erf"], ["image/erf" "image/x-erf"];
    Dcr, "Kodak RAW.", TiffOrRaw, "image/x-kodak-dcr", ["dcr"], ["image/dcr" "image/x-dcr"];
    Kdc, "Kodak RAW of compact cameras.", TiffOrRaw, "image/x-kodak-kdc", ["kdc"], ["image/kdc" "image/x-kdc"];
}

impl MediaType {
    /// The type that a file's name ends in, such as `IMG_1.CR3`, for where nobody declared one.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        Self::ALL.into_iter().find(|media| {
            let mut known = media.format().extensions.iter();
            known.any(|known| known.eq_ignore_ascii_case(extension))
        })
    }

    /// Reads a `Content-Type` (RFC 9110, 8.3): case and parameters make no difference, and the names that older
    /// clients use for a format are known. `None` if it is none of [`MediaType::ALL`].
    #[must_use]
    pub fn parse(content_type: &str) -> Option<Self> {
        let essence = match content_type.split_once(';') {
            Some((essence, _parameters)) => essence,
            None => content_type,
        };
        let essence = essence.trim_matches([' ', '\t']);
        Self::ALL.into_iter().find(|media| {
            let format = media.format();
            let mut names = format.aliases.iter().chain([&format.canonical]);
            names.any(|name| name.eq_ignore_ascii_case(essence))
        })
    }

    /// The content type to store: lower case, no parameters, the RAW subtype kept.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.format().canonical
    }

    pub(super) const fn content(self) -> Content {
        self.format().content
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_read_whatever_its_case_and_parameters() {
        for media_type in MediaType::ALL {
            assert_eq!(MediaType::parse(media_type.as_str()), Some(media_type));
        }
        assert_eq!(
            MediaType::parse(" Image/X-Canon-CR2 ; q=1; x"),
            Some(MediaType::Cr2)
        );
        for other in [
            "",
            ";",
            "image/",
            "image/gif",
            "image/jpegs",
            "text/html; image/jpeg",
        ] {
            assert_eq!(MediaType::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_names_of_older_clients_mean_the_canonical_type() {
        for (declared, canonical) in [
            ("image/jpg", "image/jpeg"),
            ("IMAGE/PJPEG; charset=binary", "image/jpeg"),
            ("image/x-png", "image/png"),
            ("image/tif", "image/tiff"),
            ("image/dng", "image/x-adobe-dng"),
            ("image/Heic-Sequence", "image/heic"),
        ] {
            assert_eq!(
                MediaType::parse(declared).map(MediaType::as_str),
                Some(canonical),
                "{declared}"
            );
        }
    }

    #[test]
    fn a_name_tells_the_type_by_its_last_extension() {
        for (name, media) in [
            ("a.b.JPG", MediaType::Jpeg),
            ("1.srw", MediaType::Srw),
            ("1.PEF", MediaType::Pef),
            ("1.nrw", MediaType::Nrw),
            ("1.rwl", MediaType::Rwl),
            ("1.3FR", MediaType::Hasselblad3fr),
            ("1.iiq", MediaType::Iiq),
            ("1.X3F", MediaType::X3f),
        ] {
            assert_eq!(MediaType::of_name(name), Some(media), "{name}");
        }
        for none in ["jpg", "a.jpg.exe", "a.", ".", ""] {
            assert_eq!(MediaType::of_name(none), None, "{none}");
        }
    }

    #[test]
    fn no_name_means_two_formats() {
        let mut names: Vec<_> = MediaType::ALL
            .iter()
            .flat_map(|media| {
                let format = media.format();
                let types = format.aliases.iter().chain([&format.canonical]);
                types.chain(format.extensions).copied().collect::<Vec<_>>()
            })
            .collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
