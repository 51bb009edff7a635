# Adds up the rows `| what | count |` of all tables by name, in the order of their first occurrence. Ignores other tables.
BEGIN { FS = " *\\| *"; print "\n| what | count |\n|---|---|" }
NF == 4 && $3 ~ /^[0-9]+$/ { if (!($2 in sum)) order[++rows] = $2; sum[$2] += $3 }
END { for (row = 1; row <= rows; row++) printf "| %s | %d |\n", order[row], sum[order[row]] }
