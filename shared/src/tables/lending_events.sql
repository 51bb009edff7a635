-- Every borrow, deposit, liquidation, repayment and withdrawal, each once. The query runs unchanged in Athena, DataFusion
-- and DuckDB (there with SET TimeZone = 'UTC').
-- The category is a constant of each table, so that a query for one category reads one table.
WITH events AS (
    SELECT 'borrow' AS kind, * FROM db_analytics_{env}.transpose_borrow_events
    UNION ALL
    SELECT 'deposit' AS kind, * FROM db_analytics_{env}.transpose_deposit_events
    UNION ALL
    SELECT 'liquidation' AS kind, * FROM db_analytics_{env}.transpose_liquidation_events
    UNION ALL
    SELECT 'repay' AS kind, * FROM db_analytics_{env}.transpose_repay_events
    UNION ALL
    SELECT 'withdraw' AS kind, * FROM db_analytics_{env}.transpose_withdraw_events
),

-- The price of one ETH in US dollars, by day: of the first protocol, by name, whose snapshot has one.
eth_prices AS (
    SELECT
        CAST(block_timestamp AS DATE) AS day,
        input_token_price_usd AS price_usd,
        ROW_NUMBER() OVER (PARTITION BY CAST(block_timestamp AS DATE) ORDER BY protocol, market_id) AS choice
    FROM db_stage_{env}.the_graph_historical_market_data
    WHERE input_token_price_usd > 0
        AND COALESCE(price_unit, 'USD') = 'USD'
        AND input_token_address IN ({eth_addresses})
)

SELECT
    event.kind AS category,
    event.protocol,
    event.timestamp,
    event.index_address AS wallet_address,
    event.account_address,
    -- Native ETH is the only token that has a price without a market.
    COALESCE(
        market.input_token_symbol,
        CASE WHEN event.price_eth IS NOT NULL AND event.price_market_id IS NULL THEN 'ETH' END
    ) AS symbol,
    event.token_address,
    CAST(event.quantity AS DOUBLE) / POWER(1e1, event.token_decimals) AS amount,
    event.quantity_eth AS amount_eth,
    -- A price in US dollars as the source has it, or else that in ETH times the price of ETH.
    COALESCE(
        CASE
            WHEN COALESCE(market.price_unit, 'USD') = 'USD'
                THEN CAST(event.quantity AS DOUBLE) / POWER(1e1, event.token_decimals) * market.input_token_price_usd
        END,
        event.quantity_eth * eth.price_usd
    ) AS amount_usd,
    event.quantity,
    event.liquidated_token_address,
    event.quantity_liquidated,
    event.liquidator_address,
    event.sender_address,
    event.market_address,
    event.block_number,
    event.transaction_hash,
    event.log_index,
    event.year,
    event.month
FROM events AS event
LEFT JOIN db_stage_{env}.the_graph_historical_market_data AS market
    ON market.protocol = event.price_protocol
    AND market.market_id = event.price_market_id
    AND CAST(market.block_timestamp AS DATE) = event.price_day
LEFT JOIN eth_prices AS eth
    ON eth.day = COALESCE(event.price_day, CAST(event.timestamp AS DATE))
    AND eth.choice = 1
