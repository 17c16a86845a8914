# Draws where the time of the jobs went. Reads lines `job<TAB>phase<TAB>milliseconds`; every job has a line of bars.
BEGIN { FS = "\t"; width = 50; glyph["restore"] = "▒"; glyph["build"] = "█"; glyph["save"] = "░" }
{
  if (!($1 in total)) { order[++jobs] = $1 }
  time[$1, $2] = $3
  total[$1] += $3
  if (total[$1] > most) most = total[$1]
  if (length($1) > wide) wide = length($1)
}
END {
  split("restore build save", phases, " ")
  for (j = 1; j <= jobs; j++) {
    job = order[j]
    bar = ""
    for (p = 1; p <= 3; p++) {
      cells = int(time[job, phases[p]] * width / (most ? most : 1) + 0.5)
      # Whatever took any time is seen.
      if (cells == 0 && time[job, phases[p]] > 0) cells = 1
      for (c = 0; c < cells; c++) bar = bar glyph[phases[p]]
    }
    printf "%-" wide "s  %s %.1f s\n", job, bar, total[job] / 1000
  }
  printf "%-" wide "s  %s restore  %s build  %s save\n", "", glyph["restore"], glyph["build"], glyph["save"]
}
