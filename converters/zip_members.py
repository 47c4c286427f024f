"""The members of a zip archive, located without trusting it: PKWARE's APPNOTE.TXT, sections 4.3.7 to 4.3.16.

The standard library's `zipfile` is made for friendly archives: it takes memory for whatever a directory claims, and
lets members overlap or share a name.  Here the directory must account for the file exactly, as those that torch
writes do: it ends at the last byte, and no two members share a byte or a name.  Checksums are not compared: torch may
write wrong ones (`torch.serialization.set_crc32_options`), and they protect from accidents only.
"""

import zlib
from dataclasses import dataclass
from mmap import mmap
from struct import Struct

from cascadezoo.converters.records import MAX_NAME, Malformed

MAX_MEMBERS = 25_000  # one a storage, and few besides; the largest checkpoint has some 6000
MAX_INFLATION = 4  # deflated members together to their file: weights hardly shrink, bombs do so 1000 times
_INFLATION_FLOOR = 2**20  # bytes that any archive may unpack to, however small

_CHUNK = 2**20  # bytes inflated at a time, so that Ctrl-C is heard

_END = Struct("<4s4H2LH")  # signature, disks (2), entries (2), directory size, its offset, comment length
_END64_LOCATOR = Struct("<4sLQL")  # signature, disk, offset, disks
_END64 = Struct("<4sQ2H2L4Q")  # signature, size, versions (2), disks (2), entries (2), directory size, its offset
_ENTRY = Struct("<4s6H3L5H2L")  # see _entry
_LOCAL = Struct("<4s5H3L2H")  # signature, version, flags, method, time, date, crc, sizes (2), name and extra lengths
_EXTRA = Struct("<2H")  # tag, length
_ENCRYPTED = 0x2041  # flags: encrypted, strongly so, with masked headers
_STORED, _DEFLATED = 0, 8


@dataclass(frozen=True, slots=True)
class Member:
    """A named run of bytes of a file: ``packed`` bytes from ``start`` on, ``size`` bytes once inflated."""

    name: str
    start: int
    packed: int
    size: int
    deflated: bool = False

    def contents(self, file: mmap) -> tuple[mmap | bytearray, int]:
        """A buffer and the offset at which the member begins in it; takes memory only when it is deflated."""
        if not self.deflated:
            return file, self.start
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        data = bytearray()
        try:
            for at in range(self.start, self.start + self.packed, _CHUNK):
                packed = file[at : min(at + _CHUNK, self.start + self.packed)]
                data += inflater.decompress(packed, self.size + 1 - len(data))
                if len(data) > self.size:
                    break
        except zlib.error:
            raise Malformed(f"its zip member {self.name!r} cannot be inflated") from None
        if len(data) != self.size:
            raise Malformed(f"its zip member {self.name!r} does not inflate to the {self.size} bytes it declares")
        return data, 0


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the central directory."""

    name: bytes
    flags: int
    method: int
    packed: int
    size: int
    header: int  # offset of the local header


def zip_members(file: mmap) -> dict[str, Member]:
    """Name -> member of the archive ``file``.

    Raises:
        Malformed: truncated, encrypted, compressed otherwise than by deflate, or built to mislead.
    """
    start, end, count = _directory(file)
    if count > MAX_MEMBERS:
        raise Malformed(f"it is a zip archive of more than {MAX_MEMBERS} members")
    entries, position = [], start
    for _ in range(count):
        entry, position = _entry(file, position, end)
        entries.append(entry)
    if position != end:
        raise Malformed("its zip directory holds more than it declares")
    members: dict[str, Member] = {}
    free_from = 0
    for entry in sorted(entries, key=lambda entry: entry.header):
        member = _member(file, entry, start)
        if entry.header < free_from:
            raise Malformed(f"its zip member {member.name!r} overlaps another one")
        if member.name in members:
            raise Malformed(f"its zip archive holds {member.name!r} twice")
        members[member.name] = member
        free_from = member.start + member.packed
    inflated = sum(member.size for member in members.values() if member.deflated)
    if inflated > max(MAX_INFLATION * len(file), _INFLATION_FLOOR):
        raise Malformed(f"its zip members unpack to more than {MAX_INFLATION} times the file")
    return members


def _directory(file: mmap) -> tuple[int, int, int]:
    """Start and end of the central directory, and how many entries it has."""
    truncated = Malformed("it is a truncated zip archive (its directory is missing)")
    at = len(file) - _END.size
    if at < 0:
        raise truncated
    signature, *disks, here, count, size, start, comment = _END.unpack_from(file, at)
    if signature != b"PK\5\6" or comment:
        raise truncated
    end = at
    at -= _END64_LOCATOR.size
    if at >= _END64.size and file[at : at + 4] == b"PK\6\7":
        _, _, end, _ = _END64_LOCATOR.unpack_from(file, at)
        if end != at - _END64.size:
            raise truncated
        signature, _, _, _, *disks, here, count, size, start = _END64.unpack_from(file, end)
        if signature != b"PK\6\6":
            raise truncated
    if any(disks) or here != count or start + size != end or count * _ENTRY.size > size:
        raise Malformed("its zip directory contradicts itself")
    return start, end, count


def _entry(file: mmap, position: int, end: int) -> tuple[_Entry, int]:
    """The directory's entry at ``position``, and where the next one begins."""
    malformed = Malformed("its zip directory is malformed")
    if position + _ENTRY.size > end:
        raise malformed
    fields = _ENTRY.unpack_from(file, position)
    signature, _, _, flags, method, _, _, _, packed, size, name_length, extra_length, comment_length = fields[:13]
    header = fields[16]
    name_at = position + _ENTRY.size
    extra_at = name_at + name_length
    following = extra_at + extra_length + comment_length
    if signature != b"PK\1\2" or following > end:
        raise malformed
    name, extra = file[name_at:extra_at], file[extra_at : extra_at + extra_length]
    wide = [value == 0xFFFFFFFF for value in (size, packed, header)]  # in this order in the zip64 extra field
    numbers = _wide_numbers(extra) if any(wide) else []
    if len(numbers) < sum(wide):
        raise malformed
    size, packed, header = (
        numbers.pop(0) if is_wide else value for is_wide, value in zip(wide, (size, packed, header), strict=True)
    )
    return _Entry(name, flags, method, packed, size, header), following


def _wide_numbers(extra: bytes) -> list[int]:
    """The 8-byte numbers of the zip64 extra field (tag 1)."""
    while len(extra) >= _EXTRA.size:
        tag, length = _EXTRA.unpack_from(extra)
        body, extra = extra[_EXTRA.size : _EXTRA.size + length], extra[_EXTRA.size + length :]
        if tag == 1:
            return [int.from_bytes(body[i : i + 8], "little") for i in range(0, len(body) - 7, 8)]
    return []


def _member(file: mmap, entry: _Entry, directory: int) -> Member:
    """The member of a directory's entry, checked against its local header; all of it lies before ``directory``."""
    try:
        name = entry.name.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("its zip archive holds a member whose name is no text") from None
    forbidden = not name.isprintable() or name.startswith("/") or "\\" in name or ".." in name.split("/")
    if forbidden or len(name) > MAX_NAME:
        raise Malformed(f"its zip archive holds a member with the forbidden name {name[:80]!r}")
    if entry.flags & _ENCRYPTED:
        raise Malformed(f"its zip member {name!r} is encrypted")
    if entry.method not in (_STORED, _DEFLATED) or (entry.method == _STORED and entry.packed != entry.size):
        raise Malformed(f"its zip member {name!r} is neither stored nor deflated")
    if entry.header + _LOCAL.size > directory:
        raise Malformed(f"its zip member {name!r} lies outside the archive")
    signature, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack_from(file, entry.header)
    name_at = entry.header + _LOCAL.size
    start = name_at + name_length + extra_length
    local = (signature, flags & _ENCRYPTED, method, file[name_at : name_at + name_length])
    if local != (b"PK\3\4", 0, entry.method, entry.name):
        raise Malformed(f"its zip member {name!r} is not where the directory says")
    if start + entry.packed > directory:
        raise Malformed(f"its zip member {name!r} lies outside the archive")
    return Member(name, start, entry.packed, entry.size, entry.method == _DEFLATED)
