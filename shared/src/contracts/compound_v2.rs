//! Compound v2: the Comptroller, its cTokens and its price oracle.

use alloy_sol_types::sol;

sol! {
    /// The Comptroller: it lists the markets and knows which of them an account uses as collateral.
    interface Comptroller {
        event MarketListed(address cToken);
        event MarketEntered(address cToken, address account);
        event MarketExited(address cToken, address account);

        function getAllMarkets() external view returns (address[]);
        function markets(address cToken) external view returns (bool isListed, uint256 collateralFactorMantissa);
        function oracle() external view returns (address);
        function getAccountLiquidity(address account) external view returns (uint256 error, uint256 liquidity, uint256 shortfall);
    }

    /// A market and the token of its supplies. Only the addresses of Transfer are indexed.
    interface CToken {
        event Transfer(address indexed from, address indexed to, uint256 amount);
        event Mint(address minter, uint256 mintAmount, uint256 mintTokens);
        event Redeem(address redeemer, uint256 redeemAmount, uint256 redeemTokens);
        event Borrow(address borrower, uint256 borrowAmount, uint256 accountBorrows, uint256 totalBorrows);
        event RepayBorrow(address payer, address borrower, uint256 repayAmount, uint256 accountBorrows, uint256 totalBorrows);
        event LiquidateBorrow(address liquidator, address borrower, uint256 repayAmount, address cTokenCollateral, uint256 seizeTokens);
        event ReservesAdded(address benefactor, uint256 addAmount, uint256 newTotalReserves);

        function underlying() external view returns (address);
        function symbol() external view returns (string);
        function decimals() external view returns (uint8);
        function exchangeRateStored() external view returns (uint256);
        function accrualBlockNumber() external view returns (uint256);
        function borrowIndex() external view returns (uint256);
        function totalSupply() external view returns (uint256);
        function totalBorrows() external view returns (uint256);
        function balanceOf(address account) external view returns (uint256);
        function borrowBalanceStored(address account) external view returns (uint256);
    }

    /// AccrueInterest of the cTokens of 2019.
    interface OldCToken {
        event AccrueInterest(uint256 interestAccumulated, uint256 borrowIndex, uint256 totalBorrows);
    }

    /// AccrueInterest of later cTokens.
    interface NewCToken {
        event AccrueInterest(uint256 cashPrior, uint256 interestAccumulated, uint256 borrowIndex, uint256 totalBorrows);
    }

    /// The price oracle: the price of a market's underlying token, with 36 − decimals of the token as decimals.
    interface PriceOracle {
        function getUnderlyingPrice(address cToken) external view returns (uint256);
    }
}
