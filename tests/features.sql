-- The 26 features of every wallet as of 00:00:00 UTC of the day $as_of, computed only from the stage layer.
--
-- The pipeline computes the same values as a fold over days. Here, each value is a plain aggregate: it defines the
-- feature, and a test compares the fold with it. $as_of is a date, such as '2023-01-21'. The query runs unchanged in
-- DataFusion and in DuckDB (there with SET TimeZone = 'UTC').

WITH

-- ── Instant ────────────────────────────────────────────────────────────────────────────────────────────────────────
-- Events before `as_of` 00:00:00 UTC count, and daily snapshots up to and including the day itself.
instant AS (
    SELECT
        CAST($as_of AS DATE) AS as_of,
        CAST(EXTRACT(EPOCH FROM CAST(CAST($as_of AS DATE) AS TIMESTAMP)) AS BIGINT) AS epoch
),

-- ── Prices ─────────────────────────────────────────────────────────────────────────────────────────────────────────
-- Markets with a price. A price that is zero, negative or missing does not count. The snapshot of a day is taken at the
-- day's first block, so its day is the day of that block.
quoted_markets AS (
    SELECT
        CAST(block_timestamp AS DATE) AS day,
        protocol,
        market_id,
        input_token_address AS token,
        input_token_decimals AS decimals,
        input_token_price_usd AS price_usd,
        maximum_ltv,
        liquidation_threshold
    FROM db_stage_dev.the_graph_historical_market_data
    CROSS JOIN instant
    WHERE input_token_price_usd > 0 AND CAST(block_timestamp AS DATE) <= as_of
),

-- The price of ETH in a protocol's snapshot: that of the market of WETH, or of native ETH under either of its two
-- addresses. If there are several such markets, that of the smallest market id with a price on that day.
eth_quotes AS (
    SELECT day, protocol, price_usd, ROW_NUMBER() OVER (PARTITION BY day, protocol ORDER BY market_id) AS choice
    FROM quoted_markets
    WHERE token IN (
        '0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2',
        '0x0000000000000000000000000000000000000000',
        '0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee'
    )
),

-- The ETH price of a protocol on a day: its own, or else that of the first other protocol in alphabetical order. A day
-- on which no protocol has an ETH price has no prices at all: its markets have no match in the join.
protocol_days AS (
    SELECT DISTINCT day, protocol FROM quoted_markets
),

eth_choices AS (
    SELECT
        protocol_day.day,
        protocol_day.protocol,
        quote.price_usd AS eth_usd,
        ROW_NUMBER() OVER (
            PARTITION BY protocol_day.day, protocol_day.protocol
            ORDER BY CASE WHEN quote.protocol = protocol_day.protocol THEN 0 ELSE 1 END, quote.protocol
        ) AS choice
    FROM protocol_days AS protocol_day
    JOIN eth_quotes AS quote ON quote.day = protocol_day.day AND quote.choice = 1
),

-- Prices in ETH per whole token, by day, protocol and market. Decimals, threshold and maximum LTV are of the same row.
market_prices AS (
    SELECT
        market.day,
        market.protocol,
        market.market_id,
        market.token,
        market.decimals,
        market.price_usd / eth.eth_usd AS price_eth,
        market.maximum_ltv,
        market.liquidation_threshold
    FROM quoted_markets AS market
    JOIN eth_choices AS eth ON eth.day = market.day AND eth.protocol = market.protocol AND eth.choice = 1
),

-- Prices by token. If a protocol has several markets for a token, that of the smallest market id with a price that day.
token_prices AS (
    SELECT
        day,
        protocol,
        token,
        decimals,
        price_eth,
        ROW_NUMBER() OVER (PARTITION BY day, protocol, token ORDER BY market_id) AS choice
    FROM market_prices
),

-- ── Events ─────────────────────────────────────────────────────────────────────────────────────────────────────────
-- All valid events before `as_of`. The token and quantity of a liquidation are those of the seized collateral.
events AS (
    SELECT
        CAST(event.timestamp AS DATE) AS day,
        event.epoch_timestamp,
        event.category,
        event.transaction_hash,
        event.log_index,
        event.protocol,
        event.sender_address,
        event.account_address,
        event.token_address AS token,
        CAST(event.quantity AS DOUBLE) AS quantity
    FROM (
        SELECT timestamp, epoch_timestamp, category, transaction_hash, log_index, protocol,
            sender_address, account_address, token_address, quantity
        FROM db_stage_dev.transpose_borrow_events
        UNION ALL
        SELECT timestamp, epoch_timestamp, category, transaction_hash, log_index, protocol,
            sender_address, account_address, token_address, quantity
        FROM db_stage_dev.transpose_deposit_events
        UNION ALL
        SELECT timestamp, epoch_timestamp, category, transaction_hash, log_index, protocol,
            sender_address, account_address, token_address, quantity
        FROM db_stage_dev.transpose_liquidation_events
        UNION ALL
        SELECT timestamp, epoch_timestamp, category, transaction_hash, log_index, protocol,
            sender_address, account_address, token_address, quantity
        FROM db_stage_dev.transpose_repay_events
        UNION ALL
        SELECT timestamp, epoch_timestamp, category, transaction_hash, log_index, protocol,
            sender_address, account_address, token_address, quantity
        FROM db_stage_dev.transpose_withdraw_events
    ) AS event
    CROSS JOIN instant
    WHERE event.epoch_timestamp < instant.epoch
),

-- The price of an event: the newest price of its token on its day or the 7 days before. All 8 days of the event's own
-- protocol come first, then all 8 days of each other protocol, in alphabetical order.
event_price_choices AS (
    SELECT
        event.category,
        event.transaction_hash,
        event.log_index,
        price.price_eth,
        price.decimals,
        ROW_NUMBER() OVER (
            PARTITION BY event.category, event.transaction_hash, event.log_index
            ORDER BY CASE WHEN price.protocol = event.protocol THEN 0 ELSE 1 END, price.protocol, price.day DESC
        ) AS choice
    FROM events AS event
    JOIN token_prices AS price
        ON price.token = event.token
        AND price.choice = 1
        AND price.day BETWEEN event.day - INTERVAL '7' DAY AND event.day
),

-- Amounts in ETH. Native ETH always has the price 1 and 18 decimals, without a lookup. Without a price the amount is
-- NULL: the event is included in counts, links, times and protocol counts, but not in sums and means.
priced_events AS (
    SELECT
        event.category,
        event.epoch_timestamp,
        event.protocol,
        event.sender_address,
        event.account_address,
        CASE
            WHEN event.token IN ('0x0000000000000000000000000000000000000000', '0xeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee')
                THEN event.quantity / 1e18
            ELSE event.quantity / POWER(1e1, price.decimals) * price.price_eth
        END AS quantity_eth
    FROM events AS event
    LEFT JOIN event_price_choices AS price
        ON price.category = event.category
        AND price.transaction_hash = event.transaction_hash
        AND price.log_index = event.log_index
        AND price.choice = 1
),

-- ── Wallets and their accounts ─────────────────────────────────────────────────────────────────────────────────────
-- A wallet is an address that is the sender or the account of a valid event. (A liquidator that is neither is not a
-- wallet.)
wallets AS (
    SELECT sender_address AS wallet FROM events
    UNION
    SELECT account_address AS wallet FROM events
),

-- The accounts of a wallet: the wallet itself, at all times (`since` is NULL), and each account through which it
-- borrowed, from the first such borrow on.
links AS (
    SELECT wallet, wallet AS account, CAST(NULL AS BIGINT) AS since
    FROM wallets
    UNION ALL
    SELECT sender_address AS wallet, account_address AS account, MIN(epoch_timestamp) AS since
    FROM events
    WHERE category = 'borrow' AND account_address <> sender_address
    GROUP BY sender_address, account_address
),

-- ── Health ─────────────────────────────────────────────────────────────────────────────────────────────────────────
positions AS (
    SELECT
        CAST(block_timestamp AS DATE) AS day,
        protocol,
        id,
        account_address AS account,
        market_id,
        side,
        is_collateral,
        CAST(balance AS DOUBLE) AS balance
    FROM db_stage_dev.the_graph_historical_account_positions
    CROSS JOIN instant
    WHERE CAST(block_timestamp AS DATE) <= as_of
),

-- The price of a position: the newest price of its own market within the same 8 days. A position without a price adds
-- nothing: it has no match in the join.
position_price_choices AS (
    SELECT
        position.day,
        position.protocol,
        position.account,
        position.side,
        position.is_collateral,
        position.balance / POWER(1e1, price.decimals) * price.price_eth AS amount_eth,
        price.maximum_ltv,
        price.liquidation_threshold,
        ROW_NUMBER() OVER (
            PARTITION BY position.day, position.protocol, position.id
            ORDER BY price.day DESC
        ) AS choice
    FROM positions AS position
    JOIN market_prices AS price
        ON price.protocol = position.protocol
        AND price.market_id = position.market_id
        AND price.day BETWEEN position.day - INTERVAL '7' DAY AND position.day
),

-- The collateral and debt of a position. Supply counts only if it is enabled as collateral, where NULL means not
-- enabled, and if its market has a liquidation threshold above 0: at 0 the contracts count nothing.
valued_positions AS (
    SELECT
        day,
        protocol,
        account,
        CASE
            WHEN side IN ('LENDER', 'COLLATERAL') AND is_collateral IS TRUE AND liquidation_threshold > 0
                THEN amount_eth
            ELSE 0e0
        END AS collateral,
        CASE WHEN side = 'BORROWER' THEN amount_eth ELSE 0e0 END AS debt,
        maximum_ltv,
        liquidation_threshold
    FROM position_price_choices
    WHERE choice = 1
),

-- The sums of one account in one protocol on one day.
account_sums AS (
    SELECT
        day,
        protocol,
        account,
        SUM(collateral) AS collateral,
        SUM(collateral * liquidation_threshold) AS threshold_weighted_collateral,
        SUM(collateral * maximum_ltv) AS borrow_power,
        SUM(debt) AS debt
    FROM valued_positions
    GROUP BY day, protocol, account
),

-- Risk is the reciprocal of the health factor: 0 for a debt below 1e-9 ETH, at most 1e6, and 1e6 for a debt without
-- collateral. An account in a protocol counts only if it has collateral or a debt of at least 1e-9 ETH.
account_health AS (
    SELECT
        day,
        protocol,
        account,
        collateral,
        debt,
        GREATEST(0e0, borrow_power - debt) AS available,
        CASE
            WHEN debt < 1e-9 THEN 0e0
            WHEN threshold_weighted_collateral > 0 THEN LEAST(debt / threshold_weighted_collateral, 1e6)
            ELSE 1e6
        END AS risk
    FROM account_sums
    WHERE collateral > 0 OR debt >= 1e-9
),

-- The health of accounts, by the wallets that are linked to them. Links have no effect on earlier days: the snapshot of
-- a day uses the links created before 00:00:00 of the day.
wallet_account_health AS (
    SELECT link.wallet, health.day, health.collateral, health.available, health.debt, health.risk
    FROM account_health AS health
    JOIN links AS link
        ON link.account = health.account
        AND (link.since IS NULL OR link.since < CAST(EXTRACT(EPOCH FROM CAST(health.day AS TIMESTAMP)) AS BIGINT))
),

-- A wallet's snapshot of a day: sums over its accounts and protocols, and the largest risk. Days on which no account
-- counts have no row, so that averages do not include them as zeros.
wallet_days AS (
    SELECT
        wallet,
        day,
        SUM(collateral) AS collateral,
        SUM(available) AS available,
        SUM(debt) AS debt,
        MAX(risk) AS risk,
        SUM(debt * risk) AS debt_times_risk
    FROM wallet_account_health
    GROUP BY wallet, day
),

-- ── Aggregates, one row per wallet ─────────────────────────────────────────────────────────────────────────────────
-- Over all daily snapshots. The weighted risk uses the debt and risk of each account in each protocol.
health_history AS (
    SELECT
        wallet,
        AVG(collateral) AS collateral_avg,
        AVG(available) AS available_avg,
        AVG(risk) AS risk_avg,
        MAX(risk) AS risk_max,
        COUNT(*) AS days,
        SUM(CASE WHEN risk > 1e0 / 1.2e0 THEN 1 ELSE 0 END) AS days_at_risk,
        CASE WHEN SUM(debt) > 0 THEN SUM(debt_times_risk) / SUM(debt) ELSE 0e0 END AS weighted_risk
    FROM wallet_days
    GROUP BY wallet
),

-- The current snapshot is that of `as_of` itself, never an older one.
health_now AS (
    SELECT wallet, collateral, available, risk
    FROM wallet_days
    JOIN instant ON wallet_days.day = instant.as_of
),

-- The events that the wallet sent.
sent AS (
    SELECT
        sender_address AS wallet,
        COUNT(CASE WHEN category = 'borrow' THEN 1 END) AS borrow_count,
        SUM(CASE WHEN category = 'borrow' THEN quantity_eth END) AS borrow_sum,
        AVG(CASE WHEN category = 'borrow' THEN quantity_eth END) AS borrow_avg,
        COUNT(CASE WHEN category = 'repay' THEN 1 END) AS repay_count,
        SUM(CASE WHEN category = 'repay' THEN quantity_eth END) AS repay_sum,
        AVG(CASE WHEN category = 'repay' THEN quantity_eth END) AS repay_avg,
        COUNT(CASE WHEN category = 'deposit' THEN 1 END) AS deposit_count,
        SUM(CASE WHEN category = 'deposit' THEN quantity_eth END) AS deposit_sum,
        MIN(CASE WHEN category = 'deposit' THEN epoch_timestamp END) AS first_deposit,
        SUM(CASE WHEN category = 'withdraw' THEN quantity_eth END) AS withdraw_sum,
        COUNT(DISTINCT CASE WHEN category = 'borrow' THEN protocol END) AS borrow_protocols,
        COUNT(DISTINCT CASE WHEN category = 'deposit' THEN protocol END) AS deposit_protocols
    FROM priced_events
    GROUP BY sender_address
),

-- Liquidations of the wallet's accounts, whoever sent them, by the links created at the time of the event or before.
liquidated AS (
    SELECT
        link.wallet,
        COUNT(*) AS liquidation_count,
        MAX(event.epoch_timestamp) AS last_liquidation,
        SUM(event.quantity_eth) AS liquidation_sum
    FROM priced_events AS event
    JOIN links AS link
        ON link.account = event.account_address
        AND (link.since IS NULL OR link.since <= event.epoch_timestamp)
    WHERE event.category = 'liquidation'
    GROUP BY link.wallet
)

-- ── Features ───────────────────────────────────────────────────────────────────────────────────────────────────────
-- Every wallet has a row. An average, sum or maximum of no rows is 0. The time since an event that never occurred is
-- NULL.
SELECT
    wallets.wallet AS wallet_address,
    COALESCE(health_now.risk, 0e0) AS risk_factor,
    COALESCE(health_now.collateral, 0e0) AS total_collateral_eth,
    COALESCE(health_history.collateral_avg, 0e0) AS total_collateral_avg_eth,
    COALESCE(health_now.available, 0e0) AS total_available_borrows_eth,
    COALESCE(health_history.available_avg, 0e0) AS total_available_borrows_avg_eth,
    COALESCE(health_history.weighted_risk, 0e0) AS avg_weighted_risk_factor,
    CAST(COALESCE(health_history.days_at_risk, 0) AS BIGINT) AS risk_factor_above_threshold_daily_count,
    COALESCE(health_history.risk_avg, 0e0) AS avg_risk_factor,
    COALESCE(health_history.risk_max, 0e0) AS max_risk_factor,
    COALESCE(sent.borrow_sum, 0e0) AS borrow_amount_sum_eth,
    COALESCE(sent.borrow_avg, 0e0) AS borrow_amount_avg_eth,
    COALESCE(sent.borrow_count, 0) AS borrow_count,
    COALESCE(sent.repay_sum, 0e0) AS repay_amount_sum_eth,
    COALESCE(sent.repay_avg, 0e0) AS repay_amount_avg_eth,
    COALESCE(sent.repay_count, 0) AS repay_count,
    COALESCE(sent.borrow_sum, 0e0) - COALESCE(sent.repay_sum, 0e0) AS borrow_repay_diff_eth,
    COALESCE(sent.deposit_count, 0) AS deposit_count,
    COALESCE(sent.deposit_sum, 0e0) AS deposit_amount_sum_eth,
    instant.epoch - sent.first_deposit AS time_since_first_deposit,
    COALESCE(sent.withdraw_sum, 0e0) AS withdraw_amount_sum_eth,
    GREATEST(0e0, COALESCE(sent.withdraw_sum, 0e0) - COALESCE(sent.deposit_sum, 0e0)) AS withdraw_deposit_diff_eth,
    COALESCE(liquidated.liquidation_count, 0) AS liquidation_count,
    instant.epoch - liquidated.last_liquidation AS time_since_last_liquidated,
    COALESCE(liquidated.liquidation_sum, 0e0) AS liquidation_amount_sum_eth,
    COALESCE(sent.borrow_protocols, 0) AS unique_borrow_protocol_count,
    COALESCE(sent.deposit_protocols, 0) AS unique_lending_protocol_count,
    health_now.wallet IS NOT NULL AS has_health_now,
    CAST(COALESCE(health_history.days, 0) AS BIGINT) AS health_days
FROM wallets
CROSS JOIN instant
LEFT JOIN health_now ON health_now.wallet = wallets.wallet
LEFT JOIN health_history ON health_history.wallet = wallets.wallet
LEFT JOIN sent ON sent.wallet = wallets.wallet
LEFT JOIN liquidated ON liquidated.wallet = wallets.wallet
ORDER BY wallets.wallet
