# Adds up the rows `| what | count |` of many tables, in the order in which they come first. Other tables are left as they are.
BEGIN { FS = " *\\| *"; print "\n| what | how often |\n|---|---|" }
NF == 4 && $3 ~ /^[0-9]+$/ { if (!($2 in sum)) order[++rows] = $2; sum[$2] += $3 }
END { for (row = 1; row <= rows; row++) printf "| %s | %d |\n", order[row], sum[order[row]] }
