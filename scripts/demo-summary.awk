# Shows a job summary (GitHub's Markdown, as this action writes it) in a terminal: headings, paragraphs, tables, folded parts (unfolded) and
# pie charts (as bars). Run it with LC_ALL=C, so that every awk counts bytes: widths are counted here.
#
#   -v columns=100     the width to wrap at      -v bold=1     with the terminal's bold and dim letters
BEGIN {
  if (!columns) columns = 100
  if (bold) { on = "\033[1m"; dim = "\033[2m"; off = "\033[0m" }
}

# The columns that a text takes: its bytes without those that continue a character, and without what switches letters.
function width(text) {
  gsub(/\033\[[0-9]m/, "", text)
  gsub(/[\200-\277]/, "", text)
  return length(text)
}

function repeat(text, times,   all) {
  for (all = ""; times > 0; times--) all = all text
  return all
}

# A text without tags, and with the characters that stand as numbers.
function plain(text,   at, number) {
  gsub(/<\/?(b|code|sub|pre|details|summary)>/, "", text)
  gsub(/`|\*\*/, "", text)
  while (match(text, /&#[0-9]+;/)) {
    number = substr(text, RSTART + 2, RLENGTH - 3)
    # Only what can be seen: a control character would drive the terminal.
    number = number + 0 == 10 ? " " : number + 0 >= 32 && number + 0 <= 126 ? sprintf("%c", number + 0) : "?"
    text = substr(text, 1, RSTART - 1) number substr(text, RSTART + RLENGTH)
  }
  gsub(/&lt;/, "<", text); gsub(/&gt;/, ">", text); gsub(/&quot;/, "\"", text); gsub(/&amp;/, "\\&", text)
  return text
}

# Breaks a text into lines of `most` columns: `lines[1..]`. Returns how many. A longer word is broken where the line ends.
function wrap(text, most, lines,   words, count, number, n, word, c) {
  split("", lines)
  count = split(text, words, " ")
  n = 1
  lines[1] = ""
  for (number = 1; number <= count; number++) {
    word = words[number]
    if (lines[n] != "" && width(lines[n]) + 1 + width(word) > most) lines[++n] = ""
    while (width(word) > most) {
      c = most
      # Not in the middle of a character.
      while (c < length(word) && (width(substr(word, 1, c)) < most || substr(word, c + 1, 1) ~ /[\200-\277]/)) c++
      lines[n++] = substr(word, 1, c)
      lines[n] = ""
      word = substr(word, c + 1)
    }
    lines[n] = lines[n] (lines[n] == "" ? "" : " ") word
  }
  return n
}

function paragraph(text, before, after,   lines, count, number) {
  count = wrap(plain(text), columns, lines)
  for (number = 1; number <= count; number++) print before lines[number] after
}

# Shows the table that was collected: the widest column gives way until it fits.
function table(   row, column, most, widest, total, height, lines, count, line, cells, text, out, empty) {
  if (!rows) return
  for (column = 1; column <= fields; column++) {
    most[column] = 0
    for (row = 1; row <= rows; row++) if (width(cell[row, column]) > most[column]) most[column] = width(cell[row, column])
  }
  for (;;) {
    total = 2 * (fields - 1)
    widest = 1
    for (column = 1; column <= fields; column++) {
      total += most[column]
      if (most[column] > most[widest]) widest = column
    }
    if (total <= columns || most[widest] <= 10) break
    most[widest]--
  }
  for (row = 1; row <= rows; row++) {
    height = 1
    split("", cells)
    for (column = 1; column <= fields; column++) {
      count = wrap(cell[row, column], most[column], lines)
      for (line = 1; line <= count; line++) cells[line, column] = lines[line]
      if (count > height) height = count
    }
    empty = row == 1
    for (line = 1; line <= height; line++) {
      out = ""
      for (column = 1; column <= fields; column++) {
        text = cells[line, column]
        if (text != "") empty = 0
        text = right[column] ? repeat(" ", most[column] - width(text)) text : text repeat(" ", most[column] - width(text))
        out = out (column > 1 ? "  " : "") text
      }
      sub(/ +$/, "", out)
      if (out != "") print (row == 1 ? on out off : out)
    }
    if (row == 1 && !empty) {
      out = ""
      for (column = 1; column <= fields; column++) out = out (column > 1 ? "  " : "") repeat("-", most[column])
      print out
    }
  }
  rows = 0
}

# Shows the pie chart that was collected.
function pie(   slice, sum, most, cells) {
  for (slice = 1; slice <= slices; slice++) {
    sum += value[slice]
    if (width(name[slice]) > most) most = width(name[slice])
  }
  for (slice = 1; slice <= slices; slice++) {
    cells = sum ? int(value[slice] * 40 / sum + 0.5) : 0
    if (cells == 0 && value[slice] > 0) cells = 1
    print "  " name[slice] repeat(" ", most - width(name[slice])) "  " repeat("█", cells) (cells ? " " : "") value[slice]
  }
  slices = 0
}

/^```/ {
  if (in_code) { pie(); in_code = 0 } else { in_code = 1; is_chart = /mermaid/ }
  next
}
in_code && is_chart {
  # Other charts than pies are left out: their figures are in tables as well.
  if ($0 ~ /^pie /) { sub(/^pie (showData )?(title )?/, ""); print on plain($0) off; blank = 0 }
  else if (match($0, /^ *".*" *: *[0-9.]+ *$/)) {
    text = $0
    sub(/^ *"/, "", text)
    name[++slices] = plain(substr(text, 1, index(text, "\"") - 1))
    sub(/.*" *: */, "", text)
    value[slices] = text + 0
  }
  next
}
in_code { print "    " plain($0); blank = 0; next }
/^\|/ {
  text = $0
  sub(/^\| ?/, "", text)
  sub(/ *\|[ ]*$/, "", text)
  count = split(text, found, /\|/)
  if ($0 ~ /^\|[ :|-]+\|$/ && $0 ~ /---/) {
    for (column = 1; column <= count; column++) right[column] = found[column] ~ /-: *$/
    next
  }
  if (!rows) { fields = count; split("", right); split("", cell) }
  rows++
  blank = 0
  for (column = 1; column <= count; column++) {
    text = plain(found[column])
    gsub(/^ +| +$/, "", text)
    cell[rows, column] = text
  }
  next
}
{ table() }
/^<\/details>/ { next }
/^$/ { if (!blank) print ""; blank = 1; next }
{ blank = 0 }
/^#+ / { sub(/^#+ /, ""); paragraph($0, on, off); next }
/^<details>/ { print on "▾ " plain($0) off; next }
/^<sub>/ { paragraph($0, dim, off); next }
{ paragraph($0, "", "") }
END { table() }
