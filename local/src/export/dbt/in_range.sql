{# {mark}. The command replaces this file when it runs again. #}
{% test in_range(model, column_name, min, max=none) %}
select {{ column_name }}
from {{ model }}
where not ({{ column_name }} >= {{ min }}{% if max is not none %} and {{ column_name }} <= {{ max }}{% endif %})
{% endtest %}
